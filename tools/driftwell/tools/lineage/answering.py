"""What a version answers: its adaptable state in the bundle's network, on the images of a probe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.scoring import score
from driftwell.messages.delta import apply_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import ArrayError, SettingsError
from driftwell.messages.head import Manifest
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle
from driftwell.models.modular.writing import rewrite_bundle
from driftwell.models.network import Network
from driftwell.tools.lineage.comparison import Answers

BATCH: Final = 256

State = dict[str, NDArray[np.float32]]


def state_of(bundle: Bundle, manifest: Manifest | None) -> State:
    """The adaptable state a version leads to; None is version 0, the source state.

    Raises:
        SettingsError: if the version is of another bundle, or its delta is damaged.
    """
    if manifest is None:
        return dict(bundle.source)
    if manifest.model != bundle.digest:
        raise SettingsError(
            f"version {manifest.version} is of the bundle {manifest.model[:12]}, and "
            f"{bundle.path} is {bundle.digest[:12]}; give the bundle the cloud was given"
        )
    try:
        state = apply_delta(bundle.source, manifest.delta)
    except ArrayError as error:
        raise SettingsError(
            f"the delta of version {manifest.version} is damaged: {error}"
        ) from error
    if digest_arrays(state) != manifest.result:
        raise SettingsError(
            f"the delta of version {manifest.version} leads to other bits than it promises; "
            "restore the cloud's ledger from a backup"
        )
    return state


@dataclass(slots=True)
class Answerer:
    """One network that answers for any version."""

    network: Network

    def answers(self, state: State, images: Pixels) -> Answers:
        """Answer uint8 images (N, H, W, C), N >= 1, in the given state."""
        self.network.install(state)
        scores = [
            score(self.network.logits(images[first : first + BATCH]))
            for first in range(0, len(images), BATCH)
        ]
        return Answers(
            np.concatenate([one.label for one in scores]),
            np.concatenate([one.entropy for one in scores]),
        )


@contextmanager
def version_as_bundle(bundle: Bundle, state: State) -> Iterator[Path]:
    """A folder with a bundle whose source state is the version's; gone afterwards."""
    with TemporaryDirectory(prefix="driftwell-") as folder:
        yield rewrite_bundle(bundle, Path(folder) / "bundle", {**bundle.weights, **state}).path
