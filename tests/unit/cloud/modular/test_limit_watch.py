"""When a device's sub-model is derived anew: at once if it must be, later if it may be."""

import math
from dataclasses import replace

import pytest
from tests.unit.cloud.modular.plan_cases import COMPUTE, MEMORY, Case, rows

from driftwell.cloud.modular.planner import (
    DOWNLOAD,
    LimitWatch,
    ReplanSettings,
    ResourceCost,
    watch_limits,
    watch_plan,
)

PATIENCE = ReplanSettings()
WATCH = LimitWatch(costs={MEMORY: 80.0}, planned={MEMORY: 100.0, COMPUTE: 10.0})


def looked(*looks: tuple[float, dict[str, float]], watch: LimitWatch = WATCH) -> list[str]:
    """What is said at each (time, limits), one after the other."""
    reasons: list[str] = []
    for now_s, present in looks:
        watch = watch_limits(PATIENCE, watch, present, now_s=now_s)
        assert watch.is_due == (watch.reason != "")
        reasons.append(watch.reason)
    return reasons


def limits(memory: float, compute: float = 10.0) -> dict[str, float]:
    return {MEMORY: memory, COMPUTE: compute}


def test_limits_that_wobble_change_nothing() -> None:
    """As long as the sub-model fits and no limit is far above the plan's, it stays."""
    assert (
        looked((0, limits(81)), (40, limits(120)), (80, limits(80)), (900, limits(119))) == [""] * 4
    )


def test_a_limit_below_the_sub_model_is_due_at_once() -> None:
    """A device is not to run what it has no room for, and it stays due until it is planned anew."""
    assert looked((0, limits(79)), (0.1, limits(79.9)), (0.2, limits(80))) == ["fallen"] * 2 + [""]


def test_a_rise_is_due_when_it_has_lasted() -> None:
    """More room is used after 30 s of it."""
    assert looked((5, limits(121)), (34.9, limits(500)), (35, limits(121))) == ["", "", "risen"]


def test_a_rise_that_is_interrupted_begins_anew() -> None:
    """A moment of the old limit, and the wait starts again."""
    looks = [(0, limits(130)), (20, limits(110)), (31, limits(130)), (60, limits(130))]

    assert looked(*looks, (61, limits(130))) == ["", "", "", "", "risen"]


def test_two_short_rises_are_not_a_long_one() -> None:
    """Each limit waits for itself."""
    looks = [(0, limits(130)), (20, limits(100, 13)), (40, limits(100, 13))]

    assert looked(*looks, (50, limits(100, 13))) == ["", "", "", "risen"]


def test_a_limit_that_is_lifted_has_risen() -> None:
    """None is more than any; and one that is new is no rise, but may be too little."""
    assert looked((0, {COMPUTE: 10}), (30, {COMPUTE: 10})) == ["", "risen"]
    assert looked((0, limits(100) | {DOWNLOAD: 1}), (99, limits(100) | {DOWNLOAD: 1})) == ["", ""]
    assert looked((0, {MEMORY: 79}), watch=replace(WATCH, planned={})) == ["fallen"]


def test_a_clock_that_goes_back_makes_no_rise_older() -> None:
    """The wait begins anew."""
    assert looked((100, limits(130)), (50, limits(130)), (79, limits(130)), (80, limits(130))) == [
        "", "", "", "risen",
    ]  # fmt: skip


def test_what_was_downloaded_is_not_watched() -> None:
    """Once the modules are there, a smaller limit of downloads takes nothing away."""
    case = Case(
        importance=rows([1.0]),
        costs={
            DOWNLOAD: ResourceCost(rows([50])),
            MEMORY: ResourceCost(rows([50])),
        },
        limits={DOWNLOAD: 60, MEMORY: 60},
    )
    watch = watch_plan(case.plan())

    assert looked((0, {DOWNLOAD: 1, MEMORY: 60}), watch=watch) == [""]
    assert looked((0, {DOWNLOAD: 60, MEMORY: 49}), watch=watch) == ["fallen"]


@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_limits_that_are_none_are_refused(limit: float) -> None:
    """A negative limit or NaN is the caller's fault."""
    with pytest.raises(ValueError, match="limits"):
        watch_limits(PATIENCE, WATCH, limits(limit), now_s=0)
