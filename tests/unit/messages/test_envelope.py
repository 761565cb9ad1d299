"""The fields every message begins with, and what they accept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.golden.fixed_messages import FIXED, STATE
from tests.strategies import messages
from tests.unit.messages.tampering import fields_of, payload_with, payload_without

from driftwell.messages import SCHEMA, Message, decode
from driftwell.messages.envelope import MAX_COUNT
from driftwell.messages.errors import MalformedError

FIELDS = ["type", "schema", "device", "session", "seq", "clock_ns", "model"]
BAD: list[tuple[str, object]] = [
    ("device", ""),
    ("device", "Cam"),
    ("device", "a/b"),
    ("device", "a\n"),
    ("device", "_\n"),
    ("device", "__"),
    ("device", "a" * 49),
    ("device", 7),
    ("device", None),
    ("session", "0" * 15),
    ("session", "0" * 17),
    ("session", "0" * 16 + "\n"),
    ("session", "G" * 16),
    ("seq", -1),
    ("seq", MAX_COUNT + 1),
    ("seq", 1.0),
    ("seq", "1"),
    ("seq", True),
    ("clock_ns", -1),
    ("clock_ns", 0.5),
    ("model", "0" * 63),
    ("model", "0" * 64 + "\n"),
    ("model", "A" * 64),
    ("model", b"0" * 64),
]


@given(messages())
def test_every_message_begins_with_the_envelope(message: Message) -> None:
    """The first seven fields are the envelope's, in one order, and the schema is ours."""
    fields = fields_of(message)

    assert list(fields)[:7] == FIELDS
    assert fields["schema"] == SCHEMA


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_field_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """A message whose envelope breaks a rule is refused, and the field is told."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_with(STATE, field, value))


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("field", FIELDS)
def test_no_field_of_the_envelope_may_be_missing(field: str, name: str) -> None:
    """A message without one of the seven fields is refused."""
    with pytest.raises(MalformedError):
        decode(payload_without(FIXED[name], field))


@given(st.integers(0, MAX_COUNT))
def test_counts_reach_to_their_limit(seq: int) -> None:
    """Any count from 0 to 2**62 travels."""
    assert decode(payload_with(STATE, "seq", seq)).seq == seq
