"""Events: what a device did with a version, in bounds."""

import math

import pytest
from tests.golden.fixed_messages import EVENT, EVENT_RECALLED
from tests.unit.messages.tampering import payload_with, payload_without

from driftwell.messages import Event, RefusalCode, decode, encode
from driftwell.messages.errors import MalformedError


@pytest.mark.parametrize("event", ["applied", "refused", "reverted", "drift", "recalled", "budget"])
def test_the_six_events_travel(event: str) -> None:
    """A version was applied, refused, reverted or recalled; drift or an empty budget noticed."""
    message = decode(payload_with(EVENT, "event", event))

    assert isinstance(message, Event)
    assert message.event == event


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_code_fits(code: RefusalCode) -> None:
    """The word of every code is short enough to travel."""
    message = decode(payload_with(EVENT, "code", str(code)))

    assert isinstance(message, Event)
    assert message.code == code


def test_a_code_of_a_later_version_is_let_through() -> None:
    """A code that this program does not know is kept as it is."""
    message = decode(payload_with(EVENT, "code", "too-green"))

    assert isinstance(message, Event)
    assert message.code == "too-green"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event", "exploded"),
        ("event", None),
        ("version", -1),
        ("code", "c" * 33),
        ("code", None),
        ("detail", "d" * 501),
        ("lag_s", math.nan),
        ("lag_s", -math.inf),
        ("lag_s", "late"),
    ],
)
def test_an_event_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """An event that breaks a rule is refused, and the field is told."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_with(EVENT, field, value))


@pytest.mark.parametrize("lag_s", [0.0, -3600.0, 1e9, None])
def test_a_lag_may_be_negative(lag_s: float | None) -> None:
    """A device whose clock was set back reports a negative lag."""
    message = decode(payload_with(EVENT, "lag_s", lag_s))

    assert isinstance(message, Event)
    assert message.lag_s == lag_s


@pytest.mark.parametrize(("field", "default"), [("code", ""), ("detail", ""), ("lag_s", None)])
def test_only_kind_and_version_are_needed(field: str, default: object) -> None:
    """Code, detail and lag may be left out."""
    assert getattr(decode(payload_without(EVENT, field)), field) == default


def test_a_recall_names_version_and_domain() -> None:
    """The version is the one that answers now; the domain is told to people."""
    message = decode(encode(EVENT_RECALLED))

    assert isinstance(message, Event)
    assert (message.event, message.version, message.detail) == ("recalled", 2, "domain 3")
