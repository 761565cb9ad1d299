"""The demo's data: scikit-learn's handwritten digits, split once, resampled into streams."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from driftwell.messages.images import Pixels
from driftwell.tools.demo.weather import Weather

SHAPE: Final = (16, 16, 1)
INK: Final = 16.0
"""Darkest value in the data set."""
TRAINING: Final = 1000
"""Images to train on; the other 797 are held out for the streams."""
MAX_SHIFT: Final = 1  # pixels


@dataclass(frozen=True, slots=True)
class Samples:
    """Images uint8 (N, 16, 16, 1) and their labels (N,)."""

    images: Pixels
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Split:
    """What the networks learn from, and what the devices see."""

    training: Samples
    held_out: Samples


def split_digits(seed: int) -> Split:
    """Read the digits (they come with scikit-learn: nothing is downloaded) and split them."""
    content = load_digits()
    images = enlarge(content.images)
    labels = content.target.astype(np.int64)
    order = np.random.default_rng([seed, 0]).permutation(len(labels))
    training, held_out = order[:TRAINING], order[TRAINING:]
    return Split(
        Samples(images[training], labels[training]), Samples(images[held_out], labels[held_out])
    )


def enlarge(images: NDArray[np.float64]) -> Pixels:
    """(N, 8, 8) in 0..16 -> uint8 (N, 16, 16, 1), linearly between the pixels."""
    at = np.clip((np.arange(16) - 0.5) / 2, 0, 7)
    low = np.minimum(at.astype(np.int64), 6)
    share = at - low
    rows = images[:, low] * (1 - share)[:, None] + images[:, low + 1] * share[:, None]
    both = rows[:, :, low] * (1 - share) + rows[:, :, low + 1] * share
    return np.rint(both[..., None] * (255 / INK)).astype(np.uint8)


def shifted(images: Pixels, offsets: NDArray[np.int64]) -> Pixels:
    """Each image moved by its own (rows, columns), at most MAX_SHIFT; what comes in is black."""
    height, width = images.shape[1:3]
    margin = MAX_SHIFT
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    rows = (np.arange(height) + margin - offsets[:, :1])[:, :, None]
    columns = (np.arange(width) + margin - offsets[:, 1:])[:, None, :]
    return np.asarray(padded[np.arange(len(images))[:, None, None], rows, columns])


def resample(samples: Samples, count: int, source: np.random.Generator) -> Samples:
    """Draw `count` samples with repetition, each moved a little."""
    drawn = source.integers(0, len(samples), count)
    offsets = source.integers(-MAX_SHIFT, MAX_SHIFT + 1, (count, 2))
    return Samples(shifted(samples.images[drawn], offsets), samples.labels[drawn])


def make_stream(
    held_out: Samples, weather: Weather, count: int, source: np.random.Generator
) -> Samples:
    """A camera's day: the first half in the clear, the second in its weather."""
    day = resample(held_out, count, source)
    images = day.images.copy()
    images[count // 2 :] = weather.over(images[count // 2 :], source)
    return Samples(images, day.labels)
