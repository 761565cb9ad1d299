"""The wait before the next attempt."""

from hypothesis import given
from hypothesis import strategies as st

from driftwell.broker.backoff import Backoff

FAILURES = st.integers(min_value=1, max_value=10_000)
SECONDS = st.floats(min_value=0.001, max_value=1000.0)


@given(failures=FAILURES, first_s=SECONDS, longest_s=SECONDS, draw=st.floats(0.0, 1.0))
def test_the_wait_is_never_negative_and_never_over_the_longest(
    failures: int, first_s: float, longest_s: float, draw: float
) -> None:
    """However often it failed, and whatever was drawn."""
    backoff = Backoff(first_s=first_s, longest_s=longest_s)

    delay = backoff.delay_s(failures, lambda low, high: low + draw * (high - low))

    assert 0.0 <= delay <= longest_s


def test_the_longest_wait_doubles_until_it_is_the_longest() -> None:
    """0.5, 1, 2, 4, 8, and no more than 10."""
    backoff = Backoff(first_s=0.5, longest_s=10.0)

    caps = [backoff.delay_s(failures, lambda _, high: high) for failures in range(1, 8)]

    assert caps == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_fleet_does_not_come_back_at_once() -> None:
    """The draw begins at zero: that is what spreads the attempts."""
    assert Backoff().delay_s(5, lambda low, _: low) == 0.0
