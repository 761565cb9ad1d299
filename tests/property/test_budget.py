"""The budget over any course of events: no window of a day holds more than a day's bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from driftwell.edge.budget import (
    DAY_NS,
    BudgetSettings,
    BudgetState,
    advance,
    allow,
    rate,
)
from driftwell.edge.threshold import ScoreWindow, choose

HOUR_NS = DAY_NS // 24
PER_DAY = 1000

# Hypothesis prefers small numbers, so times are drawn in hours, and made odd by some ns.
waits = st.builds(lambda hours, odd: hours * HOUR_NS + odd, st.integers(0, 30), st.integers(0, 9))
asks = st.lists(st.tuples(waits, st.integers(0, 400)), max_size=60)


def admitted_at(
    settings: BudgetSettings, events: list[tuple[int, int]], start_ns: int = 0
) -> list[tuple[int, int]]:
    """Ask for each (time, size); what was admitted, and when by that clock."""
    state, admitted = BudgetState(), []
    for now_ns, size_bytes in events:
        state = advance(settings, state, seen=1, now_ns=start_ns + now_ns)
        admission = allow(settings, state, samples=1, size_bytes=size_bytes)
        if admission.is_admitted:
            admitted.append((now_ns, size_bytes))
        else:
            assert admission.state is state
        state = admission.state
    return admitted


def fullest_day(admitted: list[tuple[int, int]]) -> int:
    """The most bytes in any window of 24 h, both ends included; the fullest begins with one."""
    if not admitted:
        return 0
    times, sizes = np.array(admitted, np.int64).T
    assert (np.diff(times) >= 0).all()
    spent = np.concatenate([[0], np.cumsum(sizes)])
    begin = np.searchsorted(times, times, side="left")
    end = np.searchsorted(times, times + DAY_NS, side="right")
    return int((spent[end] - spent[begin]).max())


@given(steps=asks, burst=st.integers(1, PER_DAY))
def test_no_window_of_a_day_holds_more_than_a_days_bytes(
    steps: list[tuple[int, int]], burst: int
) -> None:
    """Whatever is asked for and when, any 24 h hold at most bytes_per_day, the burst included."""
    settings = BudgetSettings(bytes_per_day=PER_DAY, burst_bytes=burst)
    now_ns, events = 0, []
    for wait_ns, size in steps:
        now_ns += wait_ns
        events.append((now_ns, size))

    assert fullest_day(admitted_at(settings, events)) <= PER_DAY


@given(
    hours=st.lists(st.integers(0, 6), min_size=10, max_size=60),
    size=st.integers(1, 50),
    burst=st.integers(50, PER_DAY),
)
def test_a_greedy_device_gets_a_days_bytes_and_not_one_more(
    hours: list[int], size: int, burst: int
) -> None:
    """One that asks until it is refused, whenever it can, never gets more in any 24 h."""
    settings = BudgetSettings(bytes_per_day=PER_DAY, burst_bytes=burst)
    now_ns, events = 0, []
    for wait in hours:
        now_ns += wait * HOUR_NS
        events += [(now_ns, size)] * (PER_DAY // size + 1)
    admitted = admitted_at(settings, events)

    assert fullest_day(admitted) <= PER_DAY
    elapsed = sum(hours[1:]) / 24
    assert sum(s for _, s in admitted) <= burst + elapsed * (PER_DAY - burst)


@given(steps=st.lists(st.tuples(st.integers(-12, 12), st.integers(0, 400)), max_size=60))
def test_a_clock_that_swings_gives_nothing_away(steps: list[tuple[int, int]]) -> None:
    """A clock that goes back by less than a day, as often as it likes, buys no byte."""
    settings = BudgetSettings(bytes_per_day=PER_DAY, burst_bytes=300)
    latest_ns, now_ns, events = 0, 0, []
    for step, size in steps:
        now_ns = max(now_ns + step * HOUR_NS, latest_ns - DAY_NS)
        latest_ns = max(latest_ns, now_ns)
        events.append((now_ns, size, latest_ns))

    state, spent = BudgetState(), 0
    for now, size, latest in events:
        state = advance(settings, state, seen=1, now_ns=now)
        state = allow(settings, state, samples=1, size_bytes=size).state
        spent = state.spent_bytes

        # Counted by the furthest the clock ever was, it is as if it had never gone back.
        assert spent * DAY_NS <= 300 * DAY_NS + (latest - events[0][0]) * (PER_DAY - 300)


@given(
    jump_h=st.integers(-500_000, 500_000),
    spent=st.integers(0, 300),
    later_h=st.integers(0, 60),
)
def test_a_jump_of_the_clock_costs_or_gives_at_most_a_day(
    jump_h: int, spent: int, later_h: int
) -> None:
    """After a jump of any size a day's wait buys what a day buys, and never more than a day's."""
    settings = BudgetSettings(bytes_per_day=PER_DAY, burst_bytes=300)
    state = advance(settings, BudgetState(), seen=1, now_ns=0)
    state = allow(settings, state, samples=1, size_bytes=spent).state
    left = state.level or 0
    jump_ns, later_ns = jump_h * HOUR_NS, later_h * HOUR_NS

    jumped = advance(settings, state, seen=1, now_ns=jump_ns)
    after = advance(settings, jumped, seen=1, now_ns=jump_ns + later_ns)

    assert left <= (jumped.level or 0) <= 300 * DAY_NS
    assert (jumped.level or 0) - left <= PER_DAY * DAY_NS
    # At most a day of waiting is lost; what remains of `later` counts in full.
    counted_ns = max(0, later_ns - DAY_NS)
    assert (after.level or 0) >= min(300 * DAY_NS, left + counted_ns * (PER_DAY - 300))


@given(sizes=st.lists(st.integers(0, 500), max_size=50), total=st.integers(1, 3000))
def test_the_total_is_never_passed(sizes: list[int], total: int) -> None:
    """Admitted bytes never pass bytes_total, and what fits under it is admitted."""
    settings = BudgetSettings(bytes_total=total)
    state, spent = BudgetState(), 0
    for size in sizes:
        state = advance(settings, state, seen=1, now_ns=0)
        admission = allow(settings, state, samples=1, size_bytes=size)
        state = admission.state

        assert admission.is_admitted == (spent + size <= total)
        spent += size if admission.is_admitted else 0

    assert spent == state.spent_bytes <= total


def score_streams(kind: str, length: int, generator: np.random.Generator) -> NDArray[np.float32]:
    t = np.arange(length, dtype=np.float32)
    return {
        "rising": t,
        "falling": -t,
        "constant": np.zeros(length, np.float32),
        "noise": generator.standard_normal(length).astype(np.float32),
        "heavy": generator.standard_cauchy(length).astype(np.float32),
        "steps": (t // 400 % 2) * 10 + generator.random(length).astype(np.float32),
        "two-valued": (generator.random(length) < 0.03).astype(np.float32),
    }[kind].astype(np.float32)


@pytest.mark.parametrize(
    "kind", ["rising", "falling", "constant", "noise", "heavy", "steps", "two-valued"]
)
@given(
    share=st.floats(0, 1),
    batch=st.sampled_from([1, 7, 64, 300]),
    horizon=st.sampled_from([16, 64, 256]),
    seed=st.integers(0, 99),
)
def test_the_share_is_kept_whatever_the_scores_are(
    kind: str, share: float, batch: int, horizon: int, seed: int
) -> None:
    """After every batch the admitted are r t, give or take the bound; one batch for H <= k."""
    settings = BudgetSettings(share=share, horizon_samples=horizon)
    generator = np.random.default_rng(seed)
    scores = score_streams(kind, 20 * max(batch, 32), generator)
    state, window, sent, seen = BudgetState(), ScoreWindow(), 0, 0
    for start in range(0, len(scores), batch):
        part = scores[start : start + batch]
        seen += len(part)
        choice = choose(part, window, rate(settings, state), generator)
        window = choice.window
        state = advance(settings, state, seen=len(part), now_ns=0)
        chosen = int(choice.mask.sum())
        state = allow(settings, state, samples=chosen, size_bytes=chosen).state
        sent += chosen

        debt = share * seen - sent
        assert abs(state.debt - debt) <= 1e-6
        assert -(share * horizon + (1 - share) * batch) - 1e-6 <= debt
        assert debt <= (1 - share) * horizon + share * batch + 1e-6
        assert horizon > batch or abs(debt) <= batch + 1e-6
