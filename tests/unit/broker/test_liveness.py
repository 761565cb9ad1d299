"""When a quiet connection is asked, and when it is given up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftwell.broker.liveness import Verdict, judge

SECONDS = st.floats(min_value=0.0, max_value=100.0)


@pytest.mark.parametrize(
    ("silent_s", "quiet_s", "asked_s", "expected"),
    [
        (0.0, 0.0, 0.0, Verdict.FINE),
        (9.9, 9.9, 9.9, Verdict.FINE),
        (10.0, 3.0, 50.0, Verdict.ECHO),
        (1.0, 10.0, 50.0, Verdict.ECHO),  # the broker has heard nothing of us
        (15.0, 5.0, 5.0, Verdict.FINE),  # asked already
        (20.0, 10.0, 10.0, Verdict.PING),
        (24.0, 4.0, 4.0, Verdict.FINE),
        (25.1, 0.0, 5.1, Verdict.GONE),
    ],
)
def test_the_course_of_a_silence(
    silent_s: float, quiet_s: float, asked_s: float, expected: Verdict
) -> None:
    """With a keepalive of ten seconds."""
    verdict = judge(silent_s=silent_s, quiet_s=quiet_s, asked_s=asked_s, keepalive_s=10.0)

    assert verdict is expected


@given(silent_s=SECONDS, quiet_s=SECONDS, asked_s=SECONDS)
def test_a_link_is_given_up_for_silence_alone(
    silent_s: float, quiet_s: float, asked_s: float
) -> None:
    """Never before 2.5 keepalives, always after, and never asked more than once in one."""
    verdict = judge(silent_s=silent_s, quiet_s=quiet_s, asked_s=asked_s, keepalive_s=10.0)

    assert (verdict is Verdict.GONE) == (silent_s > 25.0)
    if asked_s < 10.0:
        assert verdict in (Verdict.FINE, Verdict.GONE)
