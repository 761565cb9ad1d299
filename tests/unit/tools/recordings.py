"""Small recordings for the tests of replaying."""

from collections.abc import Iterable
from pathlib import Path

from tests import tiny

from driftwell.messages import Event, Message, encode
from driftwell.messages.codec import TYPE_OF_KIND
from driftwell.messages.topics import device_topic
from driftwell.recording.form import RecordedMessage
from driftwell.recording.writer import RecordingWriter

BEGIN_NS = tiny.NOW_NS


def event(device: str, seq: int) -> Event:
    return Event(
        device=device, session=tiny.SESSION, seq=seq, clock_ns=BEGIN_NS, model="a" * 64,
        event="drift", version=0,
    )  # fmt: skip


def recorded(message: Message, at_s: float = 0.0, group: str = "default") -> RecordedMessage:
    kind = next(kind for kind, sort in TYPE_OF_KIND.items() if isinstance(message, sort))
    topic = device_topic(group, message.device, kind)
    received_ns = BEGIN_NS + int(at_s * 1e9)
    return RecordedMessage(topic, encode(message), received_ns, message.clock_ns)


def write(
    path: Path,
    messages: Iterable[RecordedMessage],
    documents: dict[str, str] | None = None,
    *,
    chunk_bytes: int = 1_000_000,
) -> Path:
    with RecordingWriter(
        path, software="test", clock_s=lambda: 0.0, chunk_bytes=chunk_bytes
    ) as writer:
        for name, text in (documents or {}).items():
            writer.add_document(name, text)
        for message in messages:
            writer.write(message)
    return path


def write_events(path: Path, count: int, *, every_s: float = 1.0, device: str = "cam-1") -> Path:
    """One event a while, numbered from 1."""
    return write(path, (recorded(event(device, n + 1), n * every_s) for n in range(count)))
