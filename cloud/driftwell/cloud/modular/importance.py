"""Pure. What a device tells of its data: how much they use each module, and their classes.

One vector a layer, the mean gate of each module over the device's images (Nebula, ICPP 2024,
section 5.1), which the selector gives without running a module; and the shares of the classes
among its answers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.errors import ArrayError, RefusalCode

Importance = Sequence[NDArray[np.float64]]
"""For each module layer (all its modules,), with sum 1."""


def worth_fetching(importance: Importance, least: float) -> list[NDArray[np.float64]]:
    """Importance with what is below `least` as 0, so that no plan takes it for its own sake."""
    return [np.where(layer >= least, layer, 0.0) for layer in importance]


def unpack_importance(
    packed: Sequence[bytes], sizes: Sequence[int]
) -> tuple[NDArray[np.float64], ...]:
    """For each layer the importance of its modules, (modules,), with sum 1.

    Raises:
        ArrayError: if layers or modules are not the model's, or a number is not finite, below 0,
            or all of a layer are 0.
    """
    if [len(layer) for layer in packed] != [4 * size for size in sizes]:
        raise ArrayError("the importance is not that of this model's layers and modules")
    layers = [np.frombuffer(layer, "<f4").astype(np.float64) for layer in packed]
    return tuple(_normalised("importance", layer) for layer in layers)


def unpack_class_shares(packed: bytes, classes: int) -> NDArray[np.float64]:
    """The share of each class among a device's images, (C,), with sum 1.

    Raises:
        ArrayError: if they are not of so many classes, or a number is not finite, below 0, or all
            are 0.
    """
    if len(packed) != 4 * classes:
        raise ArrayError(f"class shares are {len(packed)} bytes, not 4 for each of {classes}")
    return _normalised("class share", np.frombuffer(packed, "<f4").astype(np.float64))


def moved_share(before: Importance, now: Importance) -> float:
    """What went to other modules, or classes, 0 to 1: mean over the layers of shares (M,)."""
    shares = [np.abs(new - old).sum() / 2 for old, new in zip(before, now, strict=True)]
    return float(np.mean(shares))


def _normalised(what: str, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    total = numbers.sum()
    if not (np.isfinite(numbers).all() and (numbers >= 0).all() and total > 0):
        raise ArrayError(f"{what}: not finite, below 0, or all 0", RefusalCode.NOT_FINITE)
    return np.asarray(numbers / total)
