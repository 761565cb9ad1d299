"""Pure. The newest labelled images of a device's stream, and when it learns from them."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.settings import LearningSettings
from driftwell.messages.images import Pixels


class Lessons:
    """At most `window` labelled images; not thread safe."""

    def __init__(self, settings: LearningSettings, *, classes: int) -> None:
        """Begin with none; a label from `classes` on is no class, and its image is left out."""
        self._settings = settings
        self._classes = classes
        self._batches: deque[tuple[Pixels, NDArray[np.int64]]] = deque()
        self._held = 0
        self._new = 0

    @property
    def is_due(self) -> bool:
        """Whether so many new ones have come that it is to learn."""
        return self._new >= self._settings.every

    def add(self, images: Pixels, labels: NDArray[np.int64]) -> None:
        """Take in a batch: uint8 (N, H, W, C), (N,)."""
        known = (labels >= 0) & (labels < self._classes)
        if not known.any():
            return
        self._batches.append((images[known], labels[known]))
        self._held += int(known.sum())
        self._new += int(known.sum())
        while self._held - len(self._batches[0][1]) >= self._settings.window:
            self._held -= len(self._batches.popleft()[1])

    def take(self) -> tuple[Pixels, NDArray[np.int64]]:
        """The newest ones, at most `window`, the newest last; the wait for new ones begins anew."""
        self._new = 0
        images = np.concatenate([images for images, _ in self._batches])
        labels = np.concatenate([labels for _, labels in self._batches])
        window = self._settings.window
        return images[-window:], labels[-window:]
