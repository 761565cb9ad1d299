"""Who the offline stage asks beside the labels: a trained network in one piece.

It is asked in every step about the very views that the modules see: answers from before would be
of other views. Preprocessing is one scale and one shift a channel, and a view only moves pixels.
So a view that is prepared for the modules becomes the same view, prepared for the teacher, by
another scale and shift, and the two may differ in preprocessing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.messages.errors import SettingsError
from driftwell.models.bundle import Bundle, open_bundle, read_manifest
from driftwell.models.manifest import BundleManifest
from driftwell.models.preprocessing import Preprocessing

SHARE: Final = 0.7
"""Of the loss that is the teacher's, where nothing else is said: that of the bench."""


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A network to learn after, in memory once."""

    digest: str
    """Of its bundle."""
    module: nn.Module
    """From inputs as the learner's bundle prepares them, float32 (N, C, H, W), to logits
    (N, classes); in evaluation mode, and without gradients."""


class Translated(nn.Module):
    """A network that is given what was prepared for another, and sees it prepared for itself."""

    def __init__(self, network: nn.Module, *, given: Preprocessing, own: Preprocessing) -> None:
        """Take over a network, which keeps its mode.

        Args:
            network: From inputs prepared by `own`.
            given: What inputs are prepared by.
            own: For as many channels.
        """
        super().__init__()
        self._network = network
        mean, std = np.asarray(own.mean), np.asarray(own.std)
        self._scale = _by_channel(np.asarray(given.std) / std)
        self._shift = _by_channel((np.asarray(given.mean) - mean) / std)

    def forward(self, inputs: Tensor) -> Tensor:
        """float32 (N, C, H, W), prepared by `given` -> the network's answer."""
        return torch.as_tensor(self._network(inputs * self._scale + self._shift))


def open_teacher(path: Path, learner: Bundle) -> Teacher:
    """Open a bundle in one piece as the teacher of a modular one.

    Args:
        path: Of the teacher's bundle: best the network that was cut.
        learner: Of the same images and classes; its preprocessing may be another.

    Raises:
        BundleError: if there is no bundle at `path`, or it does not open.
        SettingsError: if it is made of modules, or of other images or classes.
    """
    _require_fit(path, read_manifest(path)[1], learner)
    bundle = open_bundle(path)
    module = bundle.module().eval().requires_grad_(requires_grad=False)
    own, given = bundle.manifest.preprocessing, learner.manifest.preprocessing
    if own != given:
        module = Translated(module, given=given, own=own).eval()
    return Teacher(bundle.digest, module)


def _require_fit(path: Path, manifest: BundleManifest, learner: Bundle) -> None:
    if manifest.modular is not None:
        raise SettingsError(
            f"{path} is made of modules, and a teacher is in one piece: give the bundle of the "
            "network that was cut (driftwell bundle create, without --modular)"
        )
    wanted = learner.manifest
    if manifest.input.shape != wanted.input.shape:
        raise SettingsError(
            f"{path} takes images of {_size(manifest)}, {learner.path} of {_size(wanted)}: give a "
            "teacher of the same, best the network that was cut"
        )
    if manifest.classes != wanted.classes:
        raise SettingsError(
            f"{path} has other classes than {learner.path}: {_difference(manifest, wanted)}; give "
            "a teacher with the same in the same order, best the network that was cut"
        )


def _difference(manifest: BundleManifest, wanted: BundleManifest) -> str:
    """The first there is, in words."""
    for number, (one, other) in enumerate(zip(manifest.classes, wanted.classes, strict=False)):
        if one != other:
            return f"number {number} is {one!r}, not {other!r}"
    return f"{len(manifest.classes)}, not {len(wanted.classes)}"


def _size(manifest: BundleManifest) -> str:
    return " x ".join(map(str, manifest.input.shape))


def _by_channel(values: NDArray[np.float64]) -> Tensor:
    """(C,) -> float32 (C, 1, 1)."""
    return torch.from_numpy(values.astype(np.float32))[:, None, None]
