"""The budget: rate by debt, a bucket, a total, and what each refusal is called."""

import msgspec
import pytest

from driftwell.edge.budget import (
    DAY_NS,
    BudgetSettings,
    BudgetState,
    advance,
    allow,
    rate,
)


def test_without_limits_everything_is_allowed() -> None:
    """The default budget has rate 1 and refuses nothing."""
    settings = BudgetSettings()
    state = advance(settings, BudgetState(), seen=10, now_ns=0)

    assert rate(settings, state) == 1.0
    assert allow(settings, state, samples=10, size_bytes=10**12).is_admitted


def test_the_rate_follows_the_debt() -> None:
    """rate = clip(r + d/H, 0, 1) with d = r t - u."""
    settings = BudgetSettings(share=0.25, horizon_samples=100)
    owed = advance(settings, BudgetState(), seen=80, now_ns=0)
    even = allow(settings, owed, samples=20, size_bytes=1).state
    over = allow(settings, even, samples=20, size_bytes=1).state

    rates = [rate(settings, state) for state in (BudgetState(), owed, even, over)]

    assert rates == pytest.approx([0.25, 0.45, 0.25, 0.05])
    far = allow(settings, over, samples=1000, size_bytes=1).state
    assert rate(settings, far) == 0.0


def test_what_is_carried_is_bounded() -> None:
    """A year in which nothing was sent owes one horizon and two batches, not a year."""
    settings = BudgetSettings(share=0.5, horizon_samples=64)
    state = BudgetState()
    for _ in range(10_000):
        state = advance(settings, state, seen=32, now_ns=0)

    assert state.debt == 64 + 2 * 32
    assert rate(settings, state) == 1.0


def test_a_hard_shift_that_comes_late_gets_what_was_not_used() -> None:
    """Bytes are there at once up to the burst, then as the bucket fills."""
    settings = BudgetSettings(bytes_per_day=2400, burst_bytes=240)
    state = advance(settings, BudgetState(), seen=1, now_ns=0)
    first = allow(settings, state, samples=1, size_bytes=240)
    too_soon = advance(settings, first.state, seen=1, now_ns=DAY_NS // 24 - 1)
    in_time = advance(settings, first.state, seen=1, now_ns=DAY_NS // 24)

    assert first.is_admitted
    assert allow(settings, too_soon, samples=1, size_bytes=90).refusal == "bytes-per-day"
    assert allow(settings, in_time, samples=1, size_bytes=90).is_admitted


def test_a_refusal_changes_nothing_and_says_which_limit() -> None:
    """Each limit has its word; the state is the very one that was handed in."""
    settings = BudgetSettings(bytes_per_day=1000, burst_bytes=100, bytes_total=150, share=0.5)
    state = advance(settings, BudgetState(), seen=4, now_ns=0)
    spent = allow(settings, state, samples=2, size_bytes=90).state

    refusals = [
        allow(settings, state, samples=1, size_bytes=101).refusal,
        allow(settings, spent, samples=1, size_bytes=20).refusal,
        allow(settings, spent, samples=1, size_bytes=61).refusal,
    ]

    assert refusals == ["over-burst", "bytes-per-day", "bytes-total"]
    assert allow(settings, spent, samples=1, size_bytes=20).state is spent


def test_a_clock_that_went_back_years_goes_on_from_there() -> None:
    """The bucket is as full as before the jump, and fills again at once."""
    settings = BudgetSettings(bytes_per_day=1000, burst_bytes=100)
    state = advance(settings, BudgetState(), seen=1, now_ns=50 * 365 * DAY_NS)
    empty = allow(settings, state, samples=1, size_bytes=100).state

    back = advance(settings, empty, seen=1, now_ns=0)
    later = advance(settings, back, seen=1, now_ns=DAY_NS // 20)

    assert back.level == 0
    assert later.level == 45 * DAY_NS


def test_a_clock_that_went_back_an_hour_is_waited_for() -> None:
    """Going back and forth over the same hour fills the bucket once."""
    settings = BudgetSettings(bytes_per_day=1000, burst_bytes=100)
    hour_ns = DAY_NS // 24
    state = advance(settings, BudgetState(), seen=1, now_ns=2 * hour_ns)
    state = allow(settings, state, samples=1, size_bytes=100).state
    for now_ns in (hour_ns, 2 * hour_ns, hour_ns, 2 * hour_ns):
        state = advance(settings, state, seen=1, now_ns=now_ns)

    assert state.level == 0


def test_a_smaller_burst_takes_what_is_over_it() -> None:
    """A state from before a change of settings obeys the present settings."""
    before = BudgetSettings(bytes_per_day=1000, burst_bytes=1000)
    state = advance(before, BudgetState(), seen=1, now_ns=0)

    present = advance(BudgetSettings(bytes_per_day=80), state, seen=1, now_ns=0)

    assert present.level == 10 * DAY_NS


@pytest.mark.parametrize(
    "document",
    [
        {"share": 1.1},
        {"share": -0.1},
        {"bytes_per_day": 0},
        {"burst_bytes": 10},
        {"bytes_per_day": 10, "burst_bytes": 11},
        {"horizon_samples": 0},
        {"per_day": 10},
    ],
)
def test_settings_out_of_bounds_are_refused(document: dict[str, float]) -> None:
    """A share is 0 to 1, a burst is a part of a day, and names are known."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, BudgetSettings)


def test_asking_wrongly_is_an_error() -> None:
    """Negative numbers, and a bucket without a clock, are a mistake of the caller."""
    settings = BudgetSettings(bytes_per_day=100)
    with pytest.raises(ValueError, match="advance first"):
        allow(settings, BudgetState(), samples=1, size_bytes=1)
    with pytest.raises(ValueError, match="seen"):
        advance(settings, BudgetState(), seen=-1, now_ns=0)
    with pytest.raises(ValueError, match="-5 bytes"):
        allow(BudgetSettings(), BudgetState(), samples=1, size_bytes=-5)
