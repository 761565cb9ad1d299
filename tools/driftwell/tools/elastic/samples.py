"""Labelled images of the elastic bench, and where they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.errors import SourceError
from driftwell.messages.images import Pixels
from driftwell.tools.anchors import read_anchors

Numbers = NDArray[np.int64]

INK: Final = 16.0
"""Darkest value of scikit-learn's digits."""
CIFAR_SHAPE: Final = (32, 32, 3)
CIFAR_CLASSES: Final = 10


@dataclass(frozen=True, slots=True)
class Samples:
    """Images uint8 (N, H, W, C) and their labels int64 (N,)."""

    images: Pixels
    labels: Numbers

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, places: Numbers) -> Self:
        """Those at places (M,), in that order; copies."""
        return type(self)(self.images[places], self.labels[places])


def read_digits() -> Samples:
    """All 1797 handwritten digits that come with scikit-learn: 8 x 8 x 1, ink as 0..255.

    Raises:
        SourceError: if scikit-learn is not there.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise SourceError(
            "the digits come with scikit-learn: pip install 'driftwell[demo]'"
        ) from error
    content = load_digits()
    images = np.rint(content.images[..., None] * (255 / INK)).astype(np.uint8)
    return Samples(images, content.target.astype(np.int64))


def read_cifar_jpeg(path: Path, limit: int | None = None) -> Samples:
    """CIFAR-10 images 32 x 32 x 3 of an .npz with `jpeg`, `offsets` and `y`, or with `x` and `y`.

    Args:
        path: The file.
        limit: How many images at most, the same number of each class and the first ones of it:
            such a file may be sorted by class. None: all.

    Raises:
        SourceError: if the file cannot be read, or has too few images for the limit.
    """
    images, labels = read_anchors(path, shape=CIFAR_SHAPE, classes=CIFAR_CLASSES)
    samples = Samples(images, labels)
    if limit is None:
        return samples
    each = limit // CIFAR_CLASSES
    parts = [np.flatnonzero(labels == one)[:each] for one in range(CIFAR_CLASSES)]
    if each < 1 or min(map(len, parts)) < each:
        raise SourceError(f"{path} has no {each} images of every class, and at least 1 is needed")
    return samples.at(np.concatenate(parts))


def by_class(labels: Numbers, classes: int) -> Sequence[Numbers]:
    """The places of each class, in order."""
    return [np.flatnonzero(labels == one) for one in range(classes)]
