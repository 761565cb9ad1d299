"""Pure. Which of the sub-models on its disk a device runs under its present limits.

Normally that is the cloud's newest. If it takes more than a limit allows, the device does not
wait for the cloud: it goes to the best one that fits, at once, and to the fallback of its bundle
if none does. It goes back by itself only after the limits have allowed it for a while, so that
limits that wobble cost nothing; what the cloud has just sent is taken at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALLBACK = 0
"""Stands for the sub-model that came with the bundle, which always fits."""
DOWNLOAD = "download_bytes"
"""The one limit that says nothing about running a sub-model."""

Amounts = Mapping[str, float]
"""By resource."""


@dataclass(frozen=True, slots=True)
class Option:
    """A sub-model that is whole on the device's disk."""

    version: int
    chosen: tuple[tuple[int, ...], ...]
    """For each module layer the numbers of its modules."""
    costs: Amounts


@dataclass(frozen=True, slots=True)
class Fitting:
    """What runs, and what would be better for how long."""

    running: int = FALLBACK
    better: int | None = None
    since_s: float = 0.0


def fits(costs: Amounts, limits: Amounts) -> bool:
    """Whether no cost is over its limit; what is not limited, or not known, is within."""
    return all(
        cost <= limits[resource]
        for resource, cost in costs.items()
        if resource in limits and resource != DOWNLOAD
    )


def worth(option: Option, importance: Sequence[NDArray[np.float32]]) -> float:
    """How much of what the device's images need a sub-model has, at least 0.

    Args:
        option: The sub-model.
        importance: For each layer (all its modules,); empty: not known, and all are worth 0.
    """
    return float(
        sum(layer[list(chosen)].sum() for layer, chosen in zip(importance, option.chosen,
                                                              strict=False))
    )  # fmt: skip


def fit(
    fitting: Fitting,
    options: Sequence[Option],
    limits: Amounts,
    importance: Sequence[NDArray[np.float32]],
    *,
    now_s: float,
    patience_s: float,
    told: int | None = None,
) -> Fitting:
    """Decide what runs from now on.

    Args:
        fitting: As it was decided before.
        options: All sub-models that are whole on the disk, of different versions.
        limits: The present ones.
        importance: As for `worth`, which decides among older sub-models that fit.
        now_s: Seconds, monotonic.
        patience_s: How long something better must have fitted, if the cloud did not just say so.
        told: The version that the cloud has just sent, or None.
    """
    fitting_ones = [option for option in options if fits(option.costs, limits)]
    newest = max((option.version for option in options), default=FALLBACK)
    best = max(
        fitting_ones,
        key=lambda one: (one.version == newest, worth(one, importance), one.version),
        default=None,
    )
    target = FALLBACK if best is None else best.version
    if target == fitting.running:
        return Fitting(target)
    may_stay = fitting.running == FALLBACK or any(
        one.version == fitting.running for one in fitting_ones
    )
    if not may_stay or target == told:
        return Fitting(target)
    since_s = fitting.since_s if fitting.better == target else now_s
    if now_s - since_s >= patience_s:
        return Fitting(target)
    return Fitting(fitting.running, target, since_s)
