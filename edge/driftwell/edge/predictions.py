"""Pure. What a node says of one batch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.domains import Place
from driftwell.edge.drift import DriftVerdict
from driftwell.edge.filter import Verdict
from driftwell.edge.packing import Selection
from driftwell.messages.head import Manifest
from driftwell.messages.images import Pixels


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the node says of one batch; arrays of shape (N,) unless said otherwise."""

    logits: NDArray[np.float32]
    """(N, C)"""
    label: NDArray[np.uint16]
    confidence: NDArray[np.float32]
    entropy: NDArray[np.float32]
    verdicts: NDArray[np.uint8]
    version: int
    """The version that answered, the same for the whole batch."""
    swapped: Manifest | None
    """The version taken just before this batch, if one was."""
    forward_s: float
    """Seconds in the network, by the clock the node was given."""

    place: Place | None
    """In which domain it was taken; None: the node does not watch for drift."""
    drift: DriftVerdict | None
    """What the detector said of the batch; None: it does not watch, or the batch was not finite."""
    is_recalled: bool
    """Whether `swapped` is an older acquaintance: the version of a domain that has returned."""

    @property
    def selected(self) -> NDArray[np.bool_]:
        """Mask of the samples worth learning from."""
        return np.asarray(self.verdicts == Verdict.SELECTED)

    @property
    def has_drifted(self) -> bool:
        """Whether the stream left its domain for one the node does not know."""
        return self.drift is not None and self.drift.drifted

    def selection(self, images: Pixels, index: NDArray[np.uint64]) -> Selection:
        """The samples worth learning from, with what the node thought of them.

        Args:
            images: The batch, uint8 (N, H, W, C).
            index: (N,): their places in the stream.
        """
        mask = self.selected
        return Selection(
            images[mask], index[mask], self.entropy[mask], self.label[mask], self.place
        )
