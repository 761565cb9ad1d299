"""Pure. Batches of one device's images, and cutting them anew."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.images import Pixels

NO_LABEL: Final = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """Some images of a device's stream, in order; arrays of one length N >= 1."""

    images: Pixels
    """(N, H, W, C)"""
    index: NDArray[np.uint64]
    labels: NDArray[np.int64]
    """The true class, `NO_LABEL` where it is not known."""

    def __len__(self) -> int:
        return len(self.index)

    def part(self, start: int, stop: int) -> "Batch":
        """The images from `start` up to, not including, `stop`."""
        cut = slice(start, stop)
        return Batch(self.images[cut], self.index[cut], self.labels[cut])


class Cutter:
    """Gives batches of one size, or, without a size, the batches it was given."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._held: Batch | None = None

    def add(self, batch: Batch) -> Iterator[Batch]:
        """Yield the batches that are complete now."""
        if self._size is None:
            yield batch
            return
        held = _joined([self._held, batch] if self._held else [batch])
        whole = len(held) - len(held) % self._size
        self._held = held.part(whole, len(held)) if whole < len(held) else None
        for start in range(0, whole, self._size):
            yield held.part(start, start + self._size)

    def rest(self) -> Iterator[Batch]:
        """Yield what is left at the end of a stream, as short as it is."""
        held, self._held = self._held, None
        if held is not None:
            yield held


def _joined(batches: Sequence[Batch]) -> Batch:
    return Batch(
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.index for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
    )
