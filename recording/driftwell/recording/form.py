"""Pure. What a recording looks like inside: an MCAP file with one channel a topic.

- The header's profile is `driftwell-1`; the number is the schema major of the messages.
- A message stands as it travelled, byte for byte. Its channel has the topic's name, the
  encoding `msgpack` (predictions: `json`) and the JSON schema of its type.
- `log_time` is when the recorder received it, `publish_time` the sender's own clock.
  Either may jump. The order of a recording is the order in the file, never a clock.
- Beside the messages stand *views* on channels `view/GROUP/DEVICE/KIND`: the numbers of a
  message as JSON, for programs that draw them and do not read MessagePack. They can
  be left out, and no program of ours reads them.
- Documents are MCAP metadata records with the keys `text` and `crc32`: the settings of a
  recorded run. MCAP itself has no checksum there.
- Every channel and its schema stand twice: in the chunk that first uses them, and as records
  of their own before it, so that a damaged chunk does not take the names of later ones along.
"""

import json
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec

from driftwell.messages.codec import TYPE_OF_KIND
from driftwell.messages.envelope import SCHEMA, Nanoseconds
from driftwell.messages.topics import ROOT, Kind

PROFILE_PREFIX: Final = "driftwell-"
PROFILE: Final = f"{PROFILE_PREFIX}{SCHEMA}"
VIEW_PREFIX: Final = "view/"
TEXT: Final = "text"
SUM: Final = "crc32"
MAX_MESSAGE: Final = 2**28
"""Bytes of one recorded message at most: a batch of a stream is larger than what travels."""
MAX_RECORD: Final = 2**29
"""Bytes of one record of the file, and of a chunk unpacked, at most; more is damage."""
OVERHEAD_BYTES: Final = 500
"""What a message takes in memory beside its payload."""
MAX_INDEX: Final = 32_000_000
"""Bytes of chunk index of one file: a recorder holds it in memory, about 80 bytes a chunk and
10 more for each channel in it. Beyond it a recorder begins another file, or refuses."""
MAX_TOPICS: Final = 30_000
"""Topics of one recording at most: MCAP numbers channels with 16 bits, and views take some."""
MAX_TOPIC: Final = 65_535
"""Characters of a topic at most, as in MQTT."""
MAX_TIME: Final = 2**63 - 1
"""Nanoseconds; later is no time but a mistake."""


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """One message, as it came."""

    topic: str
    payload: bytes
    received_ns: int
    """The recorder's clock, nanoseconds since the Unix epoch."""
    sent_ns: int
    """The sender's clock; `received_ns` where the message does not say."""

    @property
    def held_bytes(self) -> int:
        """What it takes in memory."""
        return len(self.payload) + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class ChannelForm:
    """How a channel describes its messages."""

    encoding: str
    schema_name: str
    schema: bytes
    """A JSON schema; empty if there is none."""


class _Clock(msgspec.Struct, frozen=True):
    clock_ns: Nanoseconds


_clock: Final[msgspec.msgpack.Decoder[_Clock]] = msgspec.msgpack.Decoder(_Clock)


def sent_ns(payload: bytes, *, received_ns: int) -> int:
    """The sender's clock in a message; `received_ns` if it cannot be read."""
    try:
        return _clock.decode(payload).clock_ns
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return received_ns


@cache
def message_form(kind: Kind | None) -> ChannelForm:
    """The form of the messages of a kind; None stands for topics that are not ours."""
    if kind is Kind.PREDICTIONS:
        return ChannelForm("json", "", b"")
    message_type = TYPE_OF_KIND.get(kind) if kind else None
    if message_type is None:
        return ChannelForm("", "", b"")
    schema = json.dumps(msgspec.json.schema(message_type)).encode()
    return ChannelForm("msgpack", f"driftwell.{message_type.__name__}", schema)


def is_recordable(message: RecordedMessage) -> bool:
    """Whether a message fits a recording: its size, its topic, its clocks."""
    return (
        not message.topic.startswith(VIEW_PREFIX)
        and len(message.payload) <= MAX_MESSAGE
        and len(message.topic) <= MAX_TOPIC
        and 0 <= message.received_ns <= MAX_TIME
        and 0 <= message.sent_ns <= MAX_TIME
    )


def document_fields(name: str, text: str) -> dict[str, str]:
    """What the metadata record of a document holds."""
    return {TEXT: text, SUM: _document_sum(name, text)}


def read_document(name: str, fields: dict[str, str]) -> str | None:
    """The text of a document; None if the metadata is another program's.

    Raises:
        ValueError: if name or text are not what was written.
    """
    text = fields.get(TEXT)
    if text is None:
        return None
    if fields.get(SUM, "") not in ("", _document_sum(name, text)):
        raise ValueError(f"checksum of document {name!r} does not fit")
    return text


def _document_sum(name: str, text: str) -> str:
    return f"{zlib.crc32(name.encode() + bytes(1) + text.encode()):08x}"


def view_topic(topic: str) -> str:
    """The channel on which the view of a message of ours stands."""
    return VIEW_PREFIX + topic.removeprefix(ROOT + "/")


def view_form(view: type[msgspec.Struct]) -> ChannelForm:
    """The form of a view."""
    return ChannelForm("json", f"driftwell.view.{view.__name__}", _flat_schema(view))


def _flat_schema(view: type[msgspec.Struct]) -> bytes:
    """A JSON schema without references, as drawing programs want it."""
    schema = msgspec.json.schema(view)
    definitions: dict[str, Any] = schema.pop("$defs")
    flat = definitions[view.__name__]
    for described in flat["properties"].values():
        described.pop("default", None)
    return json.dumps(flat).encode()
