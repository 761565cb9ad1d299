"""Pure. Batches of one device's images, and cutting them anew."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.images import Pixels

UNKNOWN: Final = -1
"""Stands where an image has no label."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some images of a device's stream, in order; arrays of one length N >= 1."""

    images: Pixels
    """(N, H, W, C)"""
    index: NDArray[np.uint64]
    labels: NDArray[np.int64]
    """The true class, `UNKNOWN` where it is not known."""

    def __len__(self) -> int:
        return len(self.index)

    def part(self, start: int, stop: int) -> "Batch":
        """The images from `start` up to, not including, `stop`."""
        cut = slice(start, stop)
        return Batch(self.images[cut], self.index[cut], self.labels[cut])


class Cutter:
    """Gives batches of one size, or, without a size, the batches it was given.

    It holds less than a batch of its size and what was added last, and copies an image once.
    """

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._held: deque[Batch] = deque()
        self._count = 0

    def add(self, batch: Batch) -> Iterator[Batch]:
        """Yield the batches that are complete now."""
        if self._size is None:
            yield batch
            return
        self._held.append(batch)
        self._count += len(batch)
        while self._count >= self._size:
            yield self._take(self._size)

    def rest(self) -> Iterator[Batch]:
        """Yield what is left at the end of a stream, as short as it is."""
        if self._count:
            yield self._take(self._count)

    def _take(self, count: int) -> Batch:
        self._count -= count
        pieces: list[Batch] = []
        while count:
            first = self._held.popleft()
            if len(first) > count:
                self._held.appendleft(first.part(count, len(first)))
                first = first.part(0, count)
            pieces.append(first)
            count -= len(first)
        return _joined(pieces)


def _joined(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return Batch(
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.index for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
    )
