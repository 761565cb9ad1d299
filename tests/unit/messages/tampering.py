"""Valid messages, damaged with intent: what a faulty or hostile peer could send."""

from typing import Any

import msgspec

from driftwell.messages import Message


def fields_of(message: msgspec.Struct) -> dict[str, Any]:
    """The map a message is on the wire."""
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
    assert isinstance(fields, dict)
    return fields


def payload_with(message: Message, path: str, value: object) -> bytes:
    """The message with one field, given by its dotted path, set to `value`."""
    fields = fields_of(message)
    *parents, last = path.split(".")
    place = fields
    for parent in parents:
        place = place[parent]
    place[last] = value
    return msgspec.msgpack.encode(fields)


def payload_without(message: Message, field: str) -> bytes:
    """The message without one of its fields."""
    fields = fields_of(message)
    del fields[field]
    return msgspec.msgpack.encode(fields)


def with_extra_fields(value: object, extra: dict[str, object]) -> object:
    """The same map with `extra` in it and in every map below, except maps of counters."""
    if isinstance(value, list):
        return [with_extra_fields(item, extra) for item in value]
    if isinstance(value, dict):
        return extra | {
            key: item if key == "counters" else with_extra_fields(item, extra)
            for key, item in value.items()
        }
    return value


def appended_field(message: Message, name: str, encoded_value: bytes) -> bytes:
    """The message with one more field, whose value is given as encoded bytes."""
    payload = msgspec.msgpack.encode(message)
    size = len(fields_of(message))
    # A map counts its fields in its first byte, or in the two bytes behind it.
    head = b"\xde" + size.to_bytes(2, "big") if payload[0] == 0xDE else bytes([0x80 + size])
    assert payload.startswith(head)
    longer = b"\xde" + (size + 1).to_bytes(2, "big")
    return longer + payload[len(head) :] + msgspec.msgpack.encode(name) + encoded_value
