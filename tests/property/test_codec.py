"""The codec under any input: a message comes out as it went in, or a WireError comes out."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.golden.fixed_messages import FIXED, STATE
from tests.strategies import MESSAGES, domains, messages
from tests.unit.messages.tampering import appended_field, fields_of, with_extra_fields

from driftwell.messages import (
    MESSAGE_LIMIT,
    SCHEMA,
    Head,
    Message,
    ModuleUpdate,
    PackedSignature,
    SampleBatch,
    WireError,
    decode,
    decode_on_topic,
    encode,
    unpack_images,
)
from driftwell.messages.arrays import unpack_arrays
from driftwell.messages.codec import TYPE_OF_KIND
from driftwell.messages.errors import (
    MalformedError,
    TooLargeError,
    UnknownSchemaError,
)
from driftwell.messages.names import domain_name
from driftwell.messages.samples import unpack_columns
from driftwell.messages.signature import unpack_signature
from driftwell.messages.signing import verify_head
from driftwell.messages.topics import Kind, cohort_head_topic, device_topic, own_head_topic

LARGE = 1_000_000
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def use(message: Message) -> None:
    """Take out of a message everything that its receiver would take out of it."""
    match message:
        case SampleBatch():
            unpack_columns(message)
            unpack_images(message.images)
            use_signature(message.signature)
        case ModuleUpdate():
            unpack_arrays(message.arrays)
        case Head():
            use_signature(verify_head(message, message.key).signature)
        case _:
            pass


def use_signature(packed: PackedSignature | msgspec.UnsetType) -> None:
    """Unpack a signature where there is one."""
    if not isinstance(packed, msgspec.UnsetType):
        unpack_signature(packed)


def read(payload: bytes) -> Message | None:
    """Decode and use a payload; None if it was refused as it should be."""
    try:
        message = decode(payload)
        use(message)
    except WireError:
        return None
    return message


@contextmanager
def small_effort() -> Iterator[None]:
    """Fail where the block takes half a second or allocates half a megabyte."""
    tracemalloc.start()
    began = time.perf_counter()
    try:
        yield
        took_s = time.perf_counter() - began
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert took_s < 0.5
    assert peak_bytes < 500_000


@pytest.mark.parametrize("kind", TYPE_OF_KIND)
@given(data=st.data())
def test_a_message_comes_out_as_it_went_in(kind: Kind, data: st.DataObject) -> None:
    """Decoding what was encoded gives an equal message, of every type and on its topic."""
    message = data.draw(MESSAGES[kind]())
    domain = data.draw(domains) if kind is Kind.HEAD else 0
    if message.device == "_":
        topic = cohort_head_topic("group", domain_name("cohort", domain))
    elif kind is Kind.HEAD:
        topic = own_head_topic("group", domain_name(message.device, domain))
    else:
        topic = device_topic("group", message.device, kind)

    address, decoded = decode_on_topic(topic, encode(message))

    assert message == decoded
    assert (kind, message.device) == (address.kind, address.device)


@pytest.mark.parametrize("name", FIXED)
def test_a_message_cut_short_is_malformed(name: str) -> None:
    """Every proper prefix of a message, to the byte, is refused as malformed."""
    payload = encode(FIXED[name])

    for length in range(len(payload)):
        with pytest.raises(MalformedError):
            decode(payload[:length])


@given(messages(), st.binary(min_size=1, max_size=8))
def test_a_message_with_a_tail_is_malformed(message: Message, tail: bytes) -> None:
    """Bytes after the end of a message are refused."""
    with pytest.raises(MalformedError):
        decode(encode(message) + tail)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_malformed(payload: bytes) -> None:
    """Bytes that nobody encoded are refused, and with no other error than the codec's."""
    with pytest.raises(WireError):
        decode(payload)


@given(json_values)
def test_arbitrary_values_are_malformed(value: object) -> None:
    """Valid MessagePack that is no message of ours is refused."""
    with pytest.raises(WireError):
        decode(msgspec.msgpack.encode(value))


@given(messages(), st.data())
def test_flipped_bits_never_escape(message: Message, data: st.DataObject) -> None:
    """A damaged message is refused, or is another valid message that can be encoded again."""
    payload = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 8))):
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    read_message = read(bytes(payload))

    assert read_message is None or decode(encode(read_message)) == read_message


@pytest.mark.parametrize("name", FIXED)
def test_any_one_flipped_bit_never_escapes(name: str) -> None:
    """Whichever single bit of a message is flipped, nothing but a WireError comes out."""
    payload = encode(FIXED[name])
    refused = 0
    for position in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[position // 8] ^= 1 << position % 8
        refused += read(bytes(flipped)) is None

    assert refused > len(payload)


@given(messages(), json_values, st.data())
def test_an_arbitrary_value_in_a_field_never_escapes(
    message: Message, value: object, data: st.DataObject
) -> None:
    """A message with one field replaced by any value is refused, or valid."""
    fields = fields_of(message)
    fields[data.draw(st.sampled_from(sorted(fields)))] = value

    read_message = read(msgspec.msgpack.encode(fields))

    assert read_message is None or decode(encode(read_message)) == read_message


@given(messages(), st.dictionaries(st.text(), json_values, min_size=1, max_size=3))
def test_unknown_fields_are_ignored(message: Message, extra: dict[str, object]) -> None:
    """Fields that a later minor version added, at any depth, change nothing."""
    unknown = {f"later-{name}": value for name, value in extra.items()}

    payload = msgspec.msgpack.encode(with_extra_fields(fields_of(message), unknown))

    assert message == decode(payload)


@given(messages(), st.integers(-(2**63), 2**63 - 1).filter(lambda schema: schema != SCHEMA))
def test_another_schema_is_refused_whatever_follows(message: Message, schema: int) -> None:
    """Another schema major is named as the reason, known type and fields or not."""
    for fields in (
        fields_of(message) | {"schema": schema},
        {"type": "hologram", "schema": schema, "device": 7},
    ):
        with pytest.raises(UnknownSchemaError) as caught:
            decode(msgspec.msgpack.encode(fields))

        assert caught.value.code == "unknown-schema"
        assert schema == caught.value.schema


@pytest.mark.parametrize("missing", ["schema", "type"])
def test_a_message_must_say_what_it_is(missing: str) -> None:
    """A message without its schema or its type is malformed."""
    fields = fields_of(STATE)
    del fields[missing]

    with pytest.raises(MalformedError):
        decode(msgspec.msgpack.encode(fields))


def test_an_unknown_type_is_malformed() -> None:
    """A type that this schema does not have is refused."""
    with pytest.raises(MalformedError, match="hologram"):
        decode(msgspec.msgpack.encode(fields_of(STATE) | {"type": "hologram"}))


EMPTY_MAPS = b"\xdd" + LARGE.to_bytes(4, "big") + b"\x80" * LARGE
HOSTILE = {
    "maps side by side": EMPTY_MAPS,
    "maps in maps": b"\x81\xa0" * (LARGE // 2) + b"\x80",
    "arrays in arrays": b"\x91" * LARGE + b"\x90",
    "a thousand arrays of maps": (
        b"\xdd" + (1000).to_bytes(4, "big")
        + (b"\xdc" + (997).to_bytes(2, "big") + b"\x80" * 997) * 1000
    ),
    "an array that claims four billion entries": b"\xdd\xff\xff\xff\xff" + b"\x80" * LARGE,
    "bytes that claim four gigabytes": b"\xc6\xff\xff\xff\xff" + b"\x00" * LARGE,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_of_empty_maps_is_refused_cheaply(name: str) -> None:
    """A megabyte made to explode when decoded is refused in no time and no memory."""
    with small_effort(), pytest.raises(MalformedError):
        decode(HOSTILE[name], limit_bytes=2 * LARGE)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("field", ["device", "capabilities", "limits", "later"])
def test_a_megabyte_of_empty_maps_in_a_field_is_cheap(field: str, name: str) -> None:
    """The same in a field, known or unknown, costs no more; an unknown one may be ignored."""
    payload = appended_field(STATE, field, HOSTILE[name])

    with small_effort():
        try:
            message = decode(payload, limit_bytes=2 * LARGE)
        except MalformedError:
            return
    assert field == "later"
    assert message == STATE


@given(messages())
def test_the_limit_is_inclusive_on_both_sides(message: Message) -> None:
    """A message of exactly the limit passes, and one byte less refuses it, both ways."""
    size_bytes = len(encode(message))

    assert message == decode(encode(message, limit_bytes=size_bytes), limit_bytes=size_bytes)
    with pytest.raises(TooLargeError):
        encode(message, limit_bytes=size_bytes - 1)
    with pytest.raises(TooLargeError):
        decode(encode(message), limit_bytes=size_bytes - 1)


def test_what_is_over_the_limit_is_not_looked_into() -> None:
    """Rubbish over the limit is refused as too large, and its sizes are told."""
    with pytest.raises(TooLargeError) as caught:
        decode(b"\xc1" * (MESSAGE_LIMIT + 1))

    assert (caught.value.size_bytes, caught.value.limit_bytes) == (MESSAGE_LIMIT + 1, MESSAGE_LIMIT)
    with pytest.raises(MalformedError):
        decode(b"\xc1" * MESSAGE_LIMIT)
