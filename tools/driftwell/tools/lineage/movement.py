"""Pure. Which arrays two adaptable states differ in, and by how much."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.delta import AdaptableState


@dataclass(frozen=True, slots=True)
class Movement:
    """How far one array moved from one state to another."""

    name: str
    rms: float
    """Root mean square of the differences, in the array's own unit."""
    largest: float
    """Largest absolute difference."""
    relative: float | None
    """`rms` over the root mean square of the source's array; None where that is zero."""


def movements(
    source: AdaptableState, first: AdaptableState, second: AdaptableState
) -> list[Movement]:
    """Every array that moved from `first` to `second`, the one that moved most first.

    Sorted by `relative`; arrays that are zero in the source come after the others.
    """
    moved = [_movement(name, source[name], first[name], second[name]) for name in source]
    return sorted(
        (one for one in moved if one.largest > 0),
        key=lambda one: (one.relative is not None, one.relative or 0.0, one.rms),
        reverse=True,
    )


def _movement(
    name: str,
    source: NDArray[np.float32],
    first: NDArray[np.float32],
    second: NDArray[np.float32],
) -> Movement:
    difference = second.astype(np.float64) - first.astype(np.float64)
    rms, reference = _rms(difference), _rms(source.astype(np.float64))
    return Movement(
        name,
        rms=rms,
        largest=float(np.max(np.abs(difference), initial=0.0)),
        relative=rms / reference if reference else None,
    )


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
