"""Sub-models to be planned, and all choices of a small one tried out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray

from driftwell.cloud.modular.planner import (
    DOWNLOAD,
    ModulePlan,
    ResourceCost,
    choose_greedily,
    plan_modules,
)

MEMORY, COMPUTE = "memory_bytes", "compute_ms"
MANY = 100.0


@dataclass(frozen=True)
class Case:
    """What a plan is made from."""

    importance: list[NDArray[np.float64]]
    costs: dict[str, ResourceCost]
    limits: dict[str, float]

    def plan(self, time_limit_s: float = 10.0) -> ModulePlan:
        return plan_modules(self.importance, self.costs, self.limits, time_limit_s=time_limit_s)

    def greedy(self) -> ModulePlan:
        return choose_greedily(self.importance, self.costs, self.limits)


def rows(*layers: Sequence[float]) -> list[NDArray[np.float64]]:
    """One array a layer."""
    return [np.array(layer, np.float64) for layer in layers]


def small(**limits: float) -> Case:
    """Two layers; all modules take 12 of memory and 9 of compute, the best 7 and 3."""
    return Case(
        importance=rows([0.6, 0.3, 0.1], [0.2, 0.8]),
        costs={
            MEMORY: ResourceCost(rows([4, 1, 3], [1, 2]), trunk=1),
            COMPUTE: ResourceCost(rows([1, 2, 1], [3, 1]), trunk=1),
        },
        limits=limits,
    )


@st.composite
def cases(draw: DrawFn) -> Case:
    """Up to three layers of up to four modules; whole costs, so that a limit can just be met."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))

    def layers(most: int) -> list[NDArray[np.float64]]:
        return rows(*[draw(st.lists(st.integers(0, most), min_size=n, max_size=n)) for n in sizes])

    # Most limits are close to what one module of each layer costs, where the best may not fit.
    names = draw(st.lists(st.sampled_from((MEMORY, COMPUTE, DOWNLOAD)), unique=True))
    room = st.integers(1, 6 * len(sizes)) | st.integers(1, 40)
    return Case(
        importance=[one / MANY for one in layers(int(MANY))],
        costs={name: ResourceCost(layers(9), draw(st.integers(0, 3))) for name in names},
        limits={name: draw(room) for name in names if draw(st.integers(0, 4))},
    )


class Search:
    """All 2^M choices of a case, tried out; `taken`, (K, M), are those that are allowed."""

    def __init__(self, case: Case) -> None:
        self.case = case
        sizes = [len(one) for one in self.case.importance]
        count = sum(sizes)
        taken = (np.arange(2**count)[:, None] >> np.arange(count)) % 2 == 1
        parts = np.split(taken, np.cumsum(sizes)[:-1], axis=1)
        allowed = np.all([part.any(axis=1) for part in parts], axis=0)
        for name, limit in self.case.limits.items():
            each = np.concatenate(self.case.costs[name].modules)
            allowed &= taken @ each + self.case.costs[name].trunk <= limit
        self.taken: NDArray[np.bool_] = taken[allowed]

    def place(self, modules: Sequence[frozenset[int]]) -> NDArray[np.bool_]:
        """The choice (M,) of these modules of each layer."""
        pairs = zip(self.case.importance, modules, strict=True)
        return np.array([number in mine for one, mine in pairs for number in range(len(one))])

    def with_best(self) -> NDArray[np.bool_]:
        """Those with the most important module of each layer."""
        best = self.place([frozenset([int(one.argmax())]) for one in self.case.importance])
        return self.taken[self.taken[:, best].all(axis=1)]

    def optimum(self, taken: NDArray[np.bool_]) -> float:
        return float((taken @ np.concatenate(self.case.importance)).max())
