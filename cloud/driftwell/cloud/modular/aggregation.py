"""Pure. Folding what devices learned back into the modules, one module at a time.

Each module becomes the mean of the devices' copies of it, weighted by how much their data use
it (Nebula, ICPP 2024, section 5.3), and by how new the version is that they began with:

    w_i <- (1 - s) w_i + s sum_k a_ik w_ik,   a_ik = importance_ik discount^age / sum of these

There are no rounds: whoever answers is folded in when it comes. So the mean of few devices must
not replace what many have made; s = mass / (mass + inertia), with mass the sum of the
importance that stands behind it. With inertia 0 it is the paper's mean. Staleness is
discounted by a power of the age, as in FedAsync (Xie et al., 2019, section 5) it is by others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Contribution:
    """One device's copy of one module after local training."""

    arrays: Arrays
    importance: float
    """The module's, on the device's data: at least 0, 1 at most."""
    age: int = 0
    """Versions the module has gone through since the device's copy was made."""


def fold_in(
    module: Arrays,
    contributions: Sequence[Contribution],
    *,
    inertia: float = 0.0,
    discount: float = 1.0,
    by_importance: bool = True,
) -> dict[str, NDArray[np.float32]]:
    """The module with the contributions in it; the same arrays if nobody needs it.

    Args:
        module: As the cloud has it; names and shapes of every contribution are its own.
        contributions: In any order: the result does not depend on it, but for rounding.
        inertia: What the cloud's copy weighs, in devices whose data use nothing else; at least 0.
        discount: Of each version of age, above 0, 1 at most.
        by_importance: False: every contribution counts as 1, the plain mean.

    Raises:
        ValueError: if an array is missing, has another shape or is not finite.
    """
    for contribution in contributions:
        _require_same(module, contribution.arrays)
    weights = [
        (one.importance if by_importance else 1.0) * discount**one.age for one in contributions
    ]
    mass = sum(weights)
    if mass <= 0:
        return {name: np.array(array) for name, array in module.items()}
    share = mass / (mass + inertia)
    return {
        name: np.asarray(
            (1 - share) * array.astype(np.float64)
            + sum(
                share * (weight / mass) * one.arrays[name].astype(np.float64)
                for weight, one in zip(weights, contributions, strict=True)
            ),
            np.float32,
        )
        for name, array in module.items()
    }  # fmt: skip


def _require_same(module: Arrays, given: Arrays) -> None:
    if module.keys() != given.keys():
        raise ValueError("a contribution does not hold exactly the module's arrays")
    for name, array in module.items():
        if given[name].shape != array.shape:
            raise ValueError(f"array {name!r} is {given[name].shape}, not {array.shape}")
        if not np.isfinite(given[name]).all():
            raise ValueError(f"array {name!r} is not finite")
