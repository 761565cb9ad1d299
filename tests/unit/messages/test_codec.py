"""The codec's tables, limits and the reading of a refused message's sender."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.golden.fixed_messages import FIXED, SAMPLES, UPDATE
from tests.strategies import messages
from tests.unit.messages.tampering import fields_of, payload_with

from driftwell.messages import MESSAGE_LIMIT, Message, WireError, decode, encode
from driftwell.messages.codec import TYPE_OF_KIND, Sender, read_sender
from driftwell.messages.errors import MalformedError, TooLargeError
from driftwell.messages.topics import Kind


def test_every_message_type_travels_on_one_kind() -> None:
    """Each type has its topic; predictions and echoes are the only kinds without one."""
    types = list(TYPE_OF_KIND.values())

    assert len(types) == len(set(types))
    assert set(Message.__args__) == set(types)
    assert set(Kind) - set(TYPE_OF_KIND) == {Kind.PREDICTIONS, Kind.ECHO}


@pytest.mark.parametrize("name", FIXED)
def test_the_type_tag_is_the_kind_of_the_topic(name: str) -> None:
    """The word in `type` and the last level of the topic are the same."""
    message = FIXED[name]
    kind = next(kind for kind, known in TYPE_OF_KIND.items() if isinstance(message, known))

    assert kind == fields_of(message)["type"]


@pytest.mark.parametrize("kind", TYPE_OF_KIND)
def test_an_empty_map_of_any_type_is_malformed(kind: Kind) -> None:
    """A type and a schema alone make no message."""
    with pytest.raises(MalformedError):
        decode(msgspec.msgpack.encode({"schema": 1, "type": kind}))


def test_messages_over_the_limit_are_not_encoded() -> None:
    """A sender hears of an oversized message before the broker does."""
    array = {"name": "a", "dtype": "|u1", "shape": [MESSAGE_LIMIT], "data": bytes(MESSAGE_LIMIT)}
    payload = payload_with(UPDATE, "arrays", [array])
    large = decode(payload, limit_bytes=len(payload))

    with pytest.raises(TooLargeError, match="over the limit of 100000 bytes") as caught:
        encode(large)

    assert caught.value.size_bytes == len(payload)


@given(messages().filter(lambda message: message.device != "_"))
def test_the_sender_of_a_message_can_be_read(message: Message) -> None:
    """Device, session and seq come out of any message of a device."""
    assert Sender(message.device, message.session, message.seq) == read_sender(encode(message))


@pytest.mark.parametrize(
    ("field", "value"), [("schema", 2), ("type", "hologram"), ("images", None), ("model", "")]
)
def test_the_sender_of_a_refused_message_can_be_read(field: str, value: object) -> None:
    """A message that cannot be used still says whom to tell."""
    payload = payload_with(SAMPLES, field, value)
    with pytest.raises(WireError):
        decode(payload)

    assert Sender(SAMPLES.device, SAMPLES.session, SAMPLES.seq) == read_sender(payload)


@pytest.mark.parametrize("field", ["device", "session", "seq"])
def test_without_a_valid_sender_there_is_none(field: str) -> None:
    """Where one of the three is no good, nobody can be told."""
    assert read_sender(payload_with(SAMPLES, field, "?")) is None


@given(st.binary(max_size=100) | st.sampled_from([b"\x91" * 99_999, b"\x81\xa0" * 49_999]))
def test_no_sender_is_read_from_rubbish(payload: bytes) -> None:
    """Rubbish has no sender, and raises nothing."""
    assert read_sender(payload) is None
