"""The foundation model as a teacher: what it says of images, in the statistics of their domain.

The teacher is frozen. Its BatchNorm layers normalise by the statistics of the very images
it is asked about, and of others of the same domain beside them, with the source's as a prior
(`models.own_statistics`). What it says is the mean of its probabilities over an image and
its mirror image: on CIFAR-10-C worth two points of the teacher's accuracy.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.cloud.settings import TeacherSettings
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle
from driftwell.models.network import Network
from driftwell.models.statistics import StatisticsSettings

AT_ONCE: Final = 256
"""Images of one forward pass."""

Probabilities = NDArray[np.float32]
"""(N, C), each row adding up to 1."""


class Teacher:
    """A frozen network that answers in probabilities. Not thread safe."""

    def __init__(self, bundle: Bundle, settings: TeacherSettings) -> None:
        """Build the network of a foundation model's bundle."""
        self._classes = len(bundle.manifest.classes)
        self._mirrors = settings.mirrors
        self._network = bundle.network(
            own_statistics=StatisticsSettings(prior_images=settings.prior_images),
            bfloat16=settings.bfloat16,
        )

    def targets(self, images: Pixels, context: Pixels) -> Probabilities:
        """What it says of `images`, uint8 (N, H, W, C).

        Args:
            images: To be answered.
            context: uint8 (M, H, W, C), M >= 0, of the same domain: they count in the
                statistics and are not answered.
        """
        parts = [
            self._look(images[start : start + AT_ONCE], context)
            for start in range(0, len(images), AT_ONCE)
        ]
        return np.concatenate([np.zeros((0, self._classes), np.float32), *parts])

    def _look(self, images: Pixels, context: Pixels) -> Probabilities:
        shown = np.concatenate([images, context])
        answers = answer_together(self._network, shown)
        if self._mirrors:
            mirrored = np.ascontiguousarray(shown[:, :, ::-1])
            answers = (answers + answer_together(self._network, mirrored)) / np.float32(2)
        return answers[: len(images)]


def answer_together(network: Network, images: Pixels) -> Probabilities:
    """Probabilities (N, C) in the statistics of these images alone, and the network's prior."""
    network.restart_statistics()
    return softmax(network.logits(images))


def softmax(logits: NDArray[np.float32]) -> Probabilities:
    """exp(z) / sum exp(z), by row."""
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True), np.float32)
