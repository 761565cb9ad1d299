"""What the broker's reason codes mean for a caller and for the operator."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftwell.broker import Outcome, Publication
from driftwell.broker.reasons import connect_advice, publication


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0x00, Publication(Outcome.ACKED)),
        (0x10, Publication(Outcome.ACKED)),  # nobody subscribed: no fault of the publisher
        (0x87, Publication(Outcome.REFUSED, "denied")),
        (0x95, Publication(Outcome.REFUSED, "too-large")),
        (0x97, Publication(Outcome.SPOOLED, "quota")),
        (0x80, Publication(Outcome.REFUSED, "failed")),
        (0xFE, Publication(Outcome.REFUSED, "failed")),
    ],
)
def test_a_code_becomes_an_outcome(code: int, expected: Publication) -> None:
    """Refused is only what would be refused again."""
    assert publication(code) == expected


@given(code=st.integers(0, 255))
def test_whatever_was_not_acknowledged_has_a_reason(code: int) -> None:
    """And what was has none."""
    answer = publication(code)

    assert bool(answer.reason) == (answer.outcome is not Outcome.ACKED)


def test_only_what_the_operator_must_mend_ends_a_program() -> None:
    """A busy or unavailable broker is tried again."""
    assert connect_advice(0x86) is not None
    assert connect_advice(0x87) is not None
    assert connect_advice(0x88) is None
    assert connect_advice(0x89) is None
