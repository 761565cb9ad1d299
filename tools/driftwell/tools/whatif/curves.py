"""Pure. What changes over a run, thinned out for drawing."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_POINTS: Final = 300
LONGEST_WINDOW: Final = 500
SHORTEST_WINDOW: Final = 20

Points = tuple[tuple[float, float], ...]


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """Two curves of one variant; each has `MAX_POINTS` points at most, or none."""

    accuracy: Points = ()
    """Images answered so far, and percent right of the last `window` of them."""
    window: int = 0
    uploads: Points = ()
    """Seconds since the first image, and images uploaded so far."""


def draw_curves(
    correct: NDArray[np.bool_], uploads: Sequence[tuple[int, int]], *, began_ns: int
) -> Curves:
    """Make both curves.

    Args:
        correct: (N,): whether each labelled image was answered right, in order.
        uploads: Times in nanoseconds, and images uploaded until then, both rising.
        began_ns: The time of the first image.
    """
    window = min(LONGEST_WINDOW, max(SHORTEST_WINDOW, len(correct) // 10))
    percent = 100 * moving_mean(correct, window)
    # The first values are means of next to nothing and jump about.
    first = min(len(percent), window) - 1
    at = _thinned(np.arange(max(0, first), len(percent)))
    steps = _thinned(np.arange(len(uploads)))
    return Curves(
        accuracy=tuple((int(i) + 1, round(float(percent[i]), 3)) for i in at),
        window=window,
        uploads=tuple((round((uploads[i][0] - began_ns) / 1e9, 3), uploads[i][1]) for i in steps),
    )


def moving_mean(correct: NDArray[np.bool_], window: int) -> NDArray[np.float64]:
    """(N,) -> (N,): mean of the last `window` values up to each, of fewer at the beginning."""
    total = np.concatenate([[0.0], np.cumsum(correct, dtype=np.float64)])
    end = np.arange(1, len(correct) + 1)
    begin = np.maximum(0, end - window)
    return np.asarray((total[end] - total[begin]) / (end - begin))


def _thinned(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `MAX_POINTS` of them, evenly spread, first and last among them."""
    if len(positions) <= MAX_POINTS:
        return positions
    return positions[np.linspace(0, len(positions) - 1, MAX_POINTS).astype(np.int64)]
