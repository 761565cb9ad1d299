"""The state of a device: birth, orderly end, and the broker's word that it is gone."""

import msgspec
import pytest
from tests.golden.fixed_messages import STATE, STATE_LOST
from tests.unit.messages.tampering import payload_with, payload_without

from driftwell.messages import Limits, State, decode
from driftwell.messages.errors import MalformedError
from driftwell.messages.state import MAX_CAPABILITIES


@pytest.mark.parametrize("status", ["ready", "stopped", "lost"])
def test_the_three_statuses_travel(status: str) -> None:
    """A device is ready, stopped or lost."""
    message = decode(payload_with(STATE, "status", status))

    assert isinstance(message, State)
    assert message.status == status


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "READY"),
        ("status", ""),
        ("status", None),
        ("cohort", "_"),
        ("cohort", "a\n"),
        ("version", -1),
        ("result", "0"),
        ("last_seq", -1),
        ("capabilities", ["c" * 49]),
        ("capabilities", ["c"] * (MAX_CAPABILITIES + 1)),
        ("capabilities", "torch"),
        ("limits", {}),
        ("limits", {"message_bytes": -1, "memory_bytes": 0, "cpu_count": 0}),
        ("software", "s" * 49),
    ],
)
def test_a_state_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """A state that breaks a rule is refused, and the field is told."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_with(STATE, field, value))


@pytest.mark.parametrize("field", ["status", "cohort", "version", "result"])
def test_what_a_device_runs_is_never_left_out(field: str) -> None:
    """Status, cohort, version and digest have no defaults."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_without(STATE, field))


@pytest.mark.parametrize("field", ["last_seq", "capabilities", "limits", "software"])
def test_the_rest_has_defaults(field: str) -> None:
    """What a will need not say may be left out."""
    assert decode(payload_without(STATE_LOST, field)) == STATE_LOST


def test_limits_travel_in_their_units() -> None:
    """Bytes are bytes and processors are counted."""
    limits = {"message_bytes": 131_072, "memory_bytes": 2**33, "cpu_count": 2}

    message = decode(payload_with(STATE, "limits", limits))

    assert isinstance(message, State)
    assert message.limits == Limits(**limits)
    assert msgspec.to_builtins(message.limits) == limits
