"""Pure. The view of a message: its numbers as flat JSON, for programs that draw them.

A field that a message does not have is left out of its view. Drawing programs read plain
types only, so no field may be null.
"""

from collections.abc import Callable
from math import isfinite
from typing import Final

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from driftwell.messages.ack import Ack
from driftwell.messages.codec import TYPE_OF_KIND
from driftwell.messages.envelope import SCHEMA
from driftwell.messages.errors import WireError
from driftwell.messages.event import Event
from driftwell.messages.head import Head
from driftwell.messages.samples import SampleBatch, unpack_columns
from driftwell.messages.signing import read_manifest
from driftwell.messages.state import State
from driftwell.messages.stream import LABEL, StreamBatch, unpack_stream_columns
from driftwell.messages.telemetry import Telemetry
from driftwell.messages.topics import Kind
from driftwell.recording.form import MAX_MESSAGE

SELECTED: Final = 0
"""The verdict of a selected image in a stream batch."""

_Maybe = float | UnsetType


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What every view begins with."""

    seq: int


class TelemetryView(View, frozen=True, kw_only=True):
    """A reading of a device."""

    cpu_percent: float
    memory_used_bytes: int
    memory_total_bytes: int
    process_memory_bytes: int
    disk_free_bytes: int
    temperature_celsius: _Maybe = UNSET
    battery_percent: _Maybe = UNSET
    batches: int
    latency_ms_p50: _Maybe = UNSET
    latency_ms_p99: _Maybe = UNSET
    entropy_mean_nats: _Maybe = UNSET
    entropy_max_nats: float
    version: int
    bytes_up: int
    bytes_down: int
    connects: int
    publish_ms_p50: _Maybe = UNSET


class StateView(View, frozen=True, kw_only=True):
    """Birth or end of a device."""

    status: str
    is_ready: bool
    cohort: str
    version: int
    last_seq: int
    software: str


class EventView(View, frozen=True, kw_only=True):
    """What a device did with a version."""

    event: str
    version: int
    code: str
    detail: str
    lag_s: _Maybe = UNSET


class AckView(View, frozen=True, kw_only=True):
    """What the cloud has of a device."""

    stored_seq: int
    settled_seq: int
    version: int
    refused: int
    """Batches."""


class HeadView(View, frozen=True, kw_only=True):
    """A version."""

    version: int
    cohort: str
    trained_samples: int
    method: str
    rollback: bool
    bytes: int
    """Of the manifest."""


class SamplesView(View, frozen=True, kw_only=True):
    """Images a device selected."""

    count: int
    bytes: int
    """Of the images, packed."""
    entropy_mean_nats: _Maybe = UNSET


class StreamView(View, frozen=True, kw_only=True):
    """A batch of a device's stream."""

    count: int
    bytes: int
    """Of the images, packed."""
    version: int
    entropy_mean_nats: _Maybe = UNSET
    selected_share: _Maybe = UNSET
    """0 to 1."""
    accuracy: _Maybe = UNSET
    """0 to 1; only where the stream has labels."""


_json: Final = msgspec.json.Encoder()


def view_of(kind: Kind | None, payload: bytes) -> tuple[type[View], bytes] | None:
    """The type of a message's view, and the view as JSON; None if it has none.

    A message that does not decode, or is not of its topic's kind, has none, nor has a
    module update.
    """
    if kind is None or (known := _KNOWN.get(kind)) is None or len(payload) > MAX_MESSAGE:
        return None
    decoder, draw = known
    try:
        message = decoder.decode(payload)
        if message.schema != SCHEMA:
            return None
        view = draw(message)
    except (WireError, msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
    return type(view), _json.encode(view)


def _telemetry(message: Telemetry) -> View:
    machine, answers, link = message.resources, message.inference, message.link
    return TelemetryView(
        seq=message.seq,
        cpu_percent=machine.cpu_percent,
        memory_used_bytes=machine.memory_used_bytes,
        memory_total_bytes=machine.memory_total_bytes,
        process_memory_bytes=machine.process_memory_bytes,
        disk_free_bytes=machine.disk_free_bytes,
        temperature_celsius=_or_unset(machine.temperature_celsius),
        battery_percent=_or_unset(machine.battery_percent),
        batches=answers.batches,
        latency_ms_p50=_or_unset(answers.latency_ms_p50),
        latency_ms_p99=_or_unset(answers.latency_ms_p99),
        entropy_mean_nats=_or_unset(answers.entropy_mean_nats),
        entropy_max_nats=answers.entropy_max_nats,
        version=answers.version,
        bytes_up=link.bytes_up,
        bytes_down=link.bytes_down,
        connects=link.connects,
        publish_ms_p50=_or_unset(link.publish_ms_p50),
    )


def _state(message: State) -> View:
    return StateView(
        seq=message.seq,
        status=message.status,
        is_ready=message.status == "ready",
        cohort=message.cohort,
        version=message.version,
        last_seq=message.last_seq,
        software=message.software,
    )


def _event(message: Event) -> View:
    return EventView(
        seq=message.seq,
        event=message.event,
        version=message.version,
        code=message.code,
        detail=message.detail,
        lag_s=_or_unset(message.lag_s),
    )


def _ack(message: Ack) -> View:
    return AckView(
        seq=message.seq,
        stored_seq=message.stored_seq,
        settled_seq=message.settled_seq,
        version=message.version,
        refused=len(message.refused),
    )


def _head(message: Head) -> View:
    manifest = read_manifest(message.manifest)
    return HeadView(
        seq=message.seq,
        version=manifest.version,
        cohort=manifest.cohort,
        trained_samples=manifest.provenance.trained_samples,
        method=manifest.provenance.method,
        rollback=manifest.rollback,
        bytes=len(message.manifest),
    )


def _samples(message: SampleBatch) -> View:
    columns = unpack_columns(message)
    return SamplesView(
        seq=message.seq,
        count=message.count,
        bytes=len(message.images.data),
        entropy_mean_nats=float(columns["entropy"].mean()),
    )


def _stream(message: StreamBatch) -> View:
    columns = unpack_stream_columns(message)
    entropy = float(np.asarray(columns["entropy"]).mean())
    label = columns.get(LABEL)
    return StreamView(
        seq=message.seq,
        count=message.count,
        bytes=len(message.images.data),
        version=message.version,
        entropy_mean_nats=_or_unset(entropy),
        selected_share=float(np.mean(columns["verdict"] == SELECTED)),
        accuracy=UNSET if label is None else float(np.mean(columns["prediction"] == label)),
    )


def _or_unset(value: float | None) -> _Maybe:
    return value if value is not None and isfinite(value) else UNSET


_DRAW: Final[dict[Kind, Callable[..., View]]] = {
    Kind.ACK: _ack,
    Kind.EVENT: _event,
    Kind.HEAD: _head,
    Kind.SAMPLES: _samples,
    Kind.STATE: _state,
    Kind.STREAM: _stream,
    Kind.TELEMETRY: _telemetry,
}
# A decoder for each kind: `codec.decode` reads every message twice to say what is wrong.
_KNOWN: Final = {
    kind: (msgspec.msgpack.Decoder(TYPE_OF_KIND[kind]), draw) for kind, draw in _DRAW.items()
}
VIEWS: Final = (
    AckView, EventView, HeadView, SamplesView, StateView, StreamView, TelemetryView,
)  # fmt: skip
