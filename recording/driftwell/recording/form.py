"""Pure. What a recording looks like inside: an MCAP file with one channel a topic.

- The header's profile is `driftwell-1`; the number is the schema major of the messages.
- A message stands as it travelled, byte for byte. Its channel has the topic's name, the
  encoding `msgpack` (predictions: `json`) and the JSON schema of its type.
- `log_time` is when the recorder received it, `publish_time` the sender's own clock.
  Either may jump. The order of a recording is the order in the file, never a clock.
- Beside the messages stand *views* on channels `view/GROUP/DEVICE/KIND`: the numbers of a
  message as JSON, for programs that draw them and do not read MessagePack. They can
  be left out, and no program of ours reads them.
- Documents are MCAP metadata records with one key, `text`: the settings of a recorded run.
"""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec

from driftwell.messages.codec import TYPE_OF_KIND
from driftwell.messages.envelope import SCHEMA, Nanoseconds
from driftwell.messages.topics import Kind

PROFILE_PREFIX: Final = "driftwell-"
PROFILE: Final = f"{PROFILE_PREFIX}{SCHEMA}"
VIEW_PREFIX: Final = "view/"
TEXT: Final = "text"
MAX_MESSAGE: Final = 2**28
"""Bytes of one recorded message at most: a batch of a stream is larger than what travels."""
MAX_RECORD: Final = 2**29
"""Bytes of one record of the file at most; a longer one is damage."""


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """One message, as it came."""

    topic: str
    payload: bytes
    received_ns: int
    """The recorder's clock, nanoseconds since the Unix epoch."""
    sent_ns: int
    """The sender's clock; `received_ns` where the message does not say."""


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


def view_form(view: type[msgspec.Struct]) -> ChannelForm:
    """The form of a view."""
    return ChannelForm("json", f"driftwell.view.{view.__name__}", _flat_schema(view))


def _flat_schema(view: type[msgspec.Struct]) -> bytes:
    """A JSON schema without references, as drawing programs want it."""
    schema = msgspec.json.schema(view)
    definitions: dict[str, Any] = schema.pop("$defs")
    return json.dumps(definitions[view.__name__]).encode()
