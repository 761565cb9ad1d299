"""Which modules a device gets: the best there are, and never over a limit."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from tests.unit.cloud.modular.plan_cases import COMPUTE, MEMORY, Case, Search, cases, rows, small

from driftwell.cloud.modular.planner import (
    DOWNLOAD,
    ModulePlan,
    ResourceCost,
)
from driftwell.messages.errors import InfeasibleBudgetError, RefusalCode


@given(cases())
def test_an_exact_plan_is_the_best_there_is(case: Case) -> None:
    """No other choice within the limits is worth more; with the best of each layer where it can."""
    search = Search(case)
    if not len(search.taken):
        with pytest.raises(InfeasibleBudgetError) as caught:
            case.plan()

        assert caught.value.is_proven
        return
    best = search.with_best()

    plan = case.plan()

    assert plan.method == "exact"
    assert plan.has_best == (len(best) > 0)
    assert plan.importance == pytest.approx(search.optimum(best if len(best) else search.taken))
    assert (search.taken == search.place(plan.modules)).all(axis=1).any()


@given(cases())
def test_a_greedy_plan_is_within_the_limits_and_no_better(case: Case) -> None:
    """Its choice is one of those allowed, and worth at most what the exact plan is."""
    search = Search(case)
    try:
        greedy = case.greedy()
    except InfeasibleBudgetError as error:
        assert not (error.is_proven and len(search.taken))  # noqa: PT017
        return

    assert greedy.method == "greedy"
    assert (search.taken == search.place(greedy.modules)).all(axis=1).any()
    assert greedy.importance <= case.plan().importance + 1e-9
    assert greedy.has_best == (len(search.with_best()) > 0)


@given(cases())
def test_costs_are_those_of_the_modules(case: Case) -> None:
    """What a plan says it costs is the trunk and its modules, of resources without limit too."""
    case = replace(case, limits={})
    plan = case.plan()
    search = Search(case)

    assert plan.costs == {
        name: cost.trunk + np.concatenate(cost.modules)[search.place(plan.modules)].sum()
        for name, cost in case.costs.items()
    }


def test_without_limits_all_that_matter_are_taken() -> None:
    """Who has enough gets everything but what is never used."""
    case = small()
    case.importance[0][2] = 0

    plan = case.plan()

    assert plan.modules == (frozenset({0, 1}), frozenset({0, 1}))
    assert (plan.method, plan.has_best, plan.costs[MEMORY]) == ("exact", True, 9)


def test_the_best_of_each_layer_come_first() -> None:
    """They are forced, where others would be worth more in sum."""
    case = Case(
        importance=rows([0.4, 0.3, 0.3]),
        costs={MEMORY: ResourceCost(rows([2, 1, 1]))},
        limits={MEMORY: 2},
    )

    plan = case.plan()

    assert plan.modules == (frozenset({0}),)
    assert plan.has_best


def test_if_the_best_do_not_fit_others_do() -> None:
    """A device with less than the best modules need gets a sub-model, which says what it lacks."""
    plan, greedy = small(memory_bytes=5).plan(), small(memory_bytes=5).greedy()

    assert plan.modules == (frozenset({1}), frozenset({0, 1}))
    assert plan.costs == {MEMORY: 5, COMPUTE: 7}
    assert (plan.method, plan.has_best) == ("exact", False)
    assert (greedy.modules, greedy.has_best) == (plan.modules, False)


def test_a_limit_no_sub_model_meets_is_named() -> None:
    """The error has what binds with need and limit, and what the smallest sub-model costs."""
    with pytest.raises(InfeasibleBudgetError) as caught:
        small(memory_bytes=2, compute_ms=50).plan()

    error = caught.value
    assert error.code == RefusalCode.INFEASIBLE_BUDGET
    assert (error.needs, error.limits) == ({MEMORY: 3}, {MEMORY: 2, COMPUTE: 50})
    assert error.smallest == {MEMORY: {MEMORY: 3, COMPUTE: 6}}
    assert str(error) == (
        "no sub-model is within the limits: memory_bytes needs 3 of 2; the smallest by "
        "memory_bytes takes 3 memory_bytes, 6 compute_ms; raise these limits"
    )


def test_limits_that_can_only_be_met_one_by_one_are_named() -> None:
    """Where each could be met alone, the error has what the nearest sub-model is over."""
    case = Case(
        importance=rows([0.5, 0.5]),
        costs={MEMORY: ResourceCost(rows([1, 4])), COMPUTE: ResourceCost(rows([3, 1]))},
        limits={MEMORY: 3, COMPUTE: 2},
    )

    with pytest.raises(InfeasibleBudgetError) as caught:
        case.plan()
    with pytest.raises(InfeasibleBudgetError, match="was found within") as guessed:
        case.greedy()

    assert caught.value.needs == {MEMORY: 4}
    assert caught.value.smallest == {MEMORY: {MEMORY: 1, COMPUTE: 3}}
    assert (caught.value.is_proven, guessed.value.is_proven) == (True, False)


@pytest.mark.parametrize("below", [1e-6, 1e-8, 1e-10, 1e-12])
def test_a_limit_is_exact(below: float) -> None:
    """What a solver lets pass as a rounding error is over the limit, and the next best is found."""
    generator = np.random.default_rng(3)
    importance = list(generator.dirichlet(np.ones(5), 2))
    modules = list(generator.uniform(1, 2, (2, 5)))
    case = Case(importance, {MEMORY: ResourceCost(modules)}, {MEMORY: 8.0})
    case = replace(case, limits={MEMORY: case.plan().costs[MEMORY] * (1 - below)})

    plan = case.plan()

    assert plan.method == "exact"
    assert plan.importance == pytest.approx(Search(case).optimum(Search(case).with_best()))
    assert plan.costs[MEMORY] <= case.limits[MEMORY]


def test_a_limit_that_is_just_met_is_met() -> None:
    """Bytes are whole numbers: with exactly enough, all fit; with one less, not."""
    importance, modules = rows([0.5, 0.3, 0.2]), rows([70_000_001, 50_000_003, 30_000_007])
    case = Case(importance, {MEMORY: ResourceCost(modules, 11)}, {MEMORY: 150_000_022})

    enough, less = case.plan(), replace(case, limits={MEMORY: 150_000_021}).plan()

    assert enough.modules == (frozenset({0, 1, 2}),)
    assert less.modules == (frozenset({0, 1}),)


def large(layers: int, modules: int, share: float, *, is_alike: bool) -> Case:
    """A model of `layers` x `modules`, and limits of a share of it; or modules of growing size."""
    generator = np.random.default_rng(5)
    growth = np.arange(modules) if is_alike else np.ones(modules)
    costs = {
        name: ResourceCost(
            [size * (growth + generator.uniform(0.5, 1.5, modules)) for _ in range(layers)], size
        )
        for name, size in ((MEMORY, 1e5), (COMPUTE, 1.0), (DOWNLOAD, 1e5))
    }
    return Case(
        importance=list(generator.dirichlet(np.full(modules, 0.3), layers)),
        costs=costs,
        limits={n: c.trunk + share * float(np.sum(c.modules)) for n, c in costs.items()},
    )


def is_within(plan: ModulePlan) -> bool:
    """Whether a plan has a module of each layer, and is within its limits."""
    return all(plan.modules) and all(plan.costs[n] <= limit for n, limit in plan.limits.items())


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_out_of_time_there_is_still_a_plan(share: float) -> None:
    """However large the model: what was found until then, or the greedy plan."""
    case = large(40, 40, share, is_alike=True)

    plan = case.plan(time_limit_s=1e-6)

    assert plan.method in {"feasible", "greedy"}
    assert is_within(plan)
    assert plan.importance >= case.greedy().importance


def test_a_model_of_16_layers_and_32_modules_is_planned_exactly() -> None:
    """Three limits and 512 modules take a second at most; here with room for a slow machine."""
    case = large(16, 32, 0.3, is_alike=False)

    plan = case.plan(time_limit_s=60.0)

    assert plan.method == "exact"
    assert plan.has_best
    assert is_within(plan)
    assert plan.importance > case.greedy().importance


WRONG: dict[str, dict[str, Any]] = {
    "no layer": {"importance": [], "costs": {}, "limits": {}},
    "an empty layer": {"importance": rows([]), "costs": {}, "limits": {}},
    "not finite": {"importance": rows([0.1, math.nan, 0.3], [0.2, 0.8])},
    "negative": {"importance": rows([0.1, -0.2, 0.3], [0.2, 0.8])},
    "other layers": {"costs": {MEMORY: ResourceCost(rows([4, 1, 3]))}},
    "other modules": {"costs": {MEMORY: ResourceCost(rows([4, 1], [3, 1, 2]))}},
    "negative cost": {"costs": {MEMORY: ResourceCost(rows([4, 1, -3], [1, 2]))}},
    "infinite trunk": {"costs": {MEMORY: ResourceCost(rows([4, 1, 3], [1, 2]), math.inf)}},
    "a limit of nothing": {"limits": {"watts": 3}},
    "no room": {"limits": {MEMORY: 0}},
    "infinite limit": {"limits": {MEMORY: math.inf}},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    """Lengths that differ and numbers out of range are the caller's fault."""
    case = replace(small(memory_bytes=9), **change)

    with pytest.raises(ValueError):  # noqa: PT011
        case.plan()
    with pytest.raises(ValueError):  # noqa: PT011
        case.greedy()


@pytest.mark.parametrize("time_limit_s", [0.0, -1.0, math.nan, math.inf])
def test_a_search_has_an_end(time_limit_s: float) -> None:
    """A time limit is above 0, and is one."""
    with pytest.raises(ValueError, match="time limit"):
        small(memory_bytes=9).plan(time_limit_s)
