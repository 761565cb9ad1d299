"""Pure. How right the answers of a run were, as a whole and by domain."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftwell.tools.bench.results import Visit
from driftwell.tools.bench.scenarios import Numbers, Order

AT_THE_EDGE = 2
"""Batches that count as a visit's first, and as its last."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One batch of one device that was answered; arrays (N,)."""

    device: int
    at: Numbers
    """Places in the order."""
    is_right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of one run, in percent."""

    overall: float
    last_half: float
    """Of the later half of the images."""
    by_domain: tuple[Visit, ...]


def measure(answered: Sequence[Answered], order: Order, names: Sequence[str]) -> Accuracy:
    """Accuracy of a run.

    Args:
        answered: All its batches; each device's in their order.
        order: What was answered.
        names: Of the streams of the order.
    """
    is_right = np.zeros(len(order), np.bool_)
    for batch in answered:
        is_right[batch.at] = batch.is_right
    key = order.visit * len(names) + order.stream
    is_first, is_last = _edges(answered, key)
    visits = []
    for one in np.unique(key):
        is_of = key == one
        visits.append(
            Visit(
                domain=names[one % len(names)],
                visit=int(one // len(names)),
                n=int(is_of.sum()),
                accuracy=percent(is_right[is_of]),
                accuracy_first=percent(is_right[is_of & is_first]),
                accuracy_last=percent(is_right[is_of & is_last]),
            )
        )
    return Accuracy(percent(is_right), percent(is_right[len(order) // 2 :]), tuple(visits))


def percent(is_right: NDArray[np.bool_]) -> float:
    """The share of the right ones, (N,) with N >= 1, in percent with three decimals."""
    return round(100.0 * float(np.mean(is_right)), 3)


def _edges(
    answered: Sequence[Answered], key: Numbers
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks (N,): whether an image is in the first, and in the last batches of its visit."""
    return _first(answered, key), _first(reversed(answered), key)


def _first(answered: Iterable[Answered], key: Numbers) -> NDArray[np.bool_]:
    seen: dict[tuple[int, int], int] = {}
    is_first = np.zeros(len(key), np.bool_)
    for batch in answered:
        for one in np.unique(key[batch.at]):
            visit = batch.device, int(one)
            seen[visit] = seen.get(visit, 0) + 1
            if seen[visit] <= AT_THE_EDGE:
                is_first[batch.at[key[batch.at] == one]] = True
    return is_first
