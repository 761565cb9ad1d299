"""Pure. Bytes to messages and back, with one exit: a message, or a WireError.

Order of checks: size, schema major and type, the type's own rules, sender against topic.
A message that is over the limit is never looked into.
"""

from typing import Final

import msgspec

from driftwell.messages.ack import Ack
from driftwell.messages.blob import Blob, Fetch
from driftwell.messages.envelope import SCHEMA, Count, Envelope, Name, Session
from driftwell.messages.errors import (
    MalformedError,
    RefusalCode,
    TooLargeError,
    UnknownSchemaError,
    WrongSenderError,
)
from driftwell.messages.event import Event
from driftwell.messages.head import Head
from driftwell.messages.samples import SampleBatch
from driftwell.messages.state import State
from driftwell.messages.stream import StreamBatch
from driftwell.messages.submodel import SubModel
from driftwell.messages.telemetry import Telemetry
from driftwell.messages.topics import Address, Kind, parse_topic
from driftwell.messages.update import ModuleUpdate

MESSAGE_LIMIT: Final = 100_000  # bytes; AWS IoT Core takes 128 kB

Message = (
    Ack
    | Blob
    | Event
    | Fetch
    | Head
    | ModuleUpdate
    | SampleBatch
    | State
    | StreamBatch
    | SubModel
    | Telemetry
)

TYPE_OF_KIND: Final[dict[Kind, type[Envelope]]] = {
    Kind.ACK: Ack,
    Kind.BLOB: Blob,
    Kind.EVENT: Event,
    Kind.FETCH: Fetch,
    Kind.HEAD: Head,
    Kind.SAMPLES: SampleBatch,
    Kind.STATE: State,
    Kind.STREAM: StreamBatch,
    Kind.SUBMODEL: SubModel,
    Kind.TELEMETRY: Telemetry,
    Kind.UPDATE: ModuleUpdate,
}
"""Which message travels on which kind of topic. Predictions are JSON for anyone to read."""


class Sender(msgspec.Struct, frozen=True):
    """Whose message it was, when the rest cannot be used."""

    device: Name
    session: Session
    seq: Count


class _Preamble(msgspec.Struct, frozen=True):
    """The least one must read to know whether to read on."""

    schema: int
    type: str


_encoder: Final = msgspec.msgpack.Encoder()
_preamble: Final[msgspec.msgpack.Decoder[_Preamble]] = msgspec.msgpack.Decoder(_Preamble)
_sender: Final[msgspec.msgpack.Decoder[Sender]] = msgspec.msgpack.Decoder(Sender)
_message: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)


def encode(message: Message, *, limit_bytes: int = MESSAGE_LIMIT) -> bytes:
    """Encode a message.

    Raises:
        TooLargeError: if it came out over `limit_bytes`.
    """
    payload = _encoder.encode(message)
    if len(payload) > limit_bytes:
        raise TooLargeError(len(payload), limit_bytes)
    return payload


def decode(payload: bytes, *, limit_bytes: int = MESSAGE_LIMIT) -> Message:
    """Decode a message.

    Raises:
        WireError: the subclass, and its `code`, say why; no other exception leaves here,
            whatever the bytes are.
    """
    if len(payload) > limit_bytes:
        raise TooLargeError(len(payload), limit_bytes)
    try:
        preamble = _preamble.decode(payload)
        if preamble.schema != SCHEMA:
            raise UnknownSchemaError(preamble.schema, SCHEMA)
        return _message.decode(payload)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedError(f"not a message: {error}") from error


def read_sender(payload: bytes) -> Sender | None:
    """Whose refused message this was, so that the refusal can be told; None if unreadable."""
    try:
        return _sender.decode(payload)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None


def decode_on_topic(
    topic: str, payload: bytes, *, limit_bytes: int = MESSAGE_LIMIT
) -> tuple[Address, Message]:
    """Decode a message and check that it belongs on the topic it came on.

    Raises:
        WireError: as `decode`; also if the topic is not ours, carries another type, or
            names another device than the message.
    """
    address = parse_topic(topic)
    message = decode(payload, limit_bytes=limit_bytes)
    expected = TYPE_OF_KIND.get(address.kind)
    if expected is None or not isinstance(message, expected):
        raise MalformedError(
            f"a {type(message).__name__} does not belong on a {address.kind} topic",
            RefusalCode.WRONG_TYPE,
        )
    if message.device != address.device:
        raise WrongSenderError(address.device, message.device)
    return address, message
