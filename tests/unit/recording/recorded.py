"""Recordings to test with: the golden messages of several devices, and files that are broken."""

import itertools
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from mcap.opcode import Opcode
from tests.tiny import Ticks

from driftwell.messages.topics import Kind, cohort_head_topic, device_topic
from driftwell.recording.form import RecordedMessage, sent_ns
from driftwell.recording.reader import Recording
from driftwell.recording.records import Record, RecordFile
from driftwell.recording.recovery import Salvage, recover
from driftwell.recording.writer import RecordingWriter

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "schema1"
START_NS = 1_800_000_000 * 10**9
TYPED = (
    Kind.ACK, Kind.BLOB, Kind.EVENT, Kind.FETCH, Kind.HEAD, Kind.SAMPLES, Kind.STATE,
    Kind.STREAM, Kind.SUBMODEL, Kind.TELEMETRY, Kind.UPDATE,
)  # fmt: skip
SETTINGS = "batch = 64\n"


def payload_of(kind: Kind) -> bytes:
    return (GOLDEN / f"{kind}.bin").read_bytes()


def message(
    kind: Kind, number: int = 0, *, device: str = "cam-7", payload: bytes | None = None
) -> RecordedMessage:
    content = payload_of(kind) if payload is None else payload
    received = START_NS + number * 10**6
    topic = device_topic("home", device, kind)
    return RecordedMessage(topic, content, received, sent_ns(content, received_ns=received))


def conversation(count: int, *, seed: int = 0) -> list[RecordedMessage]:
    """Messages of all kinds and of three devices, a cohort's head and topics not ours."""
    draw = random.Random(seed)
    messages = []
    for number in range(count):
        kind = draw.choice(TYPED)
        device = f"cam-{draw.randrange(5, 8)}"
        match draw.randrange(12):
            case 0:
                noise = draw.randbytes(draw.randrange(2000))
                made = message(kind, number, device=device, payload=noise)
            case 1:
                made = RecordedMessage("weather/today", b"rain", START_NS + number, 0)
            case 2:
                head = message(Kind.HEAD, number)
                topic = cohort_head_topic("home", "yard")
                made = RecordedMessage(topic, head.payload, head.received_ns, head.sent_ns)
            case _:
                made = message(kind, number, device=device)
        messages.append(made)
    return messages


def write_recording(
    path: Path, messages: Iterable[RecordedMessage], *, chunk_bytes: int = 8000, views: bool = True
) -> Path:
    with RecordingWriter(
        path, software="test", clock_s=Ticks(), chunk_bytes=chunk_bytes, views=views
    ) as writer:
        writer.add_document("settings", SETTINGS)
        for one in messages:
            assert writer.write(one)
    return path


def read_all(path: Path) -> list[RecordedMessage]:
    with Recording(path) as recording:
        return list(recording.messages())


def chunks_of(path: Path) -> list[tuple[int, int, int]]:
    """Of a whole recording: where each chunk begins and ends, and its messages, views left out."""
    with Recording(path) as recording:
        views = {
            number
            for number, channel in recording.summary.channels.items()
            if channel.topic.startswith("view/")
        }
        return [
            (
                index.chunk_start_offset,
                index.chunk_start_offset + index.chunk_length,
                sum(stored.channel not in views for stored in recording._chunk(index)),
            )
            for index in recording.summary.chunk_indexes
        ]


def save(path: Path, out: Path) -> Salvage:
    return recover(path, out, software="test", clock_s=Ticks(), overwrite=True)


def broken(path: Path, content: bytes) -> Path:
    """A file with other content beside a recording."""
    other = path.with_name("broken.mcap")
    other.unlink(missing_ok=True)  # a file that is cut to nothing waits for the disk
    other.write_bytes(content)
    return other


def flipped(content: bytes, place: int, bit: int = 0) -> bytes:
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def is_subsequence(part: Sequence[RecordedMessage], whole: Sequence[RecordedMessage]) -> bool:
    rest = iter(whole)
    return all(one in rest for one in part)


def messages_before(chunks: Sequence[tuple[int, int, int]], end: int) -> int:
    """How many messages are in chunks that end at `end` or before."""
    return sum(count for _, stop, count in itertools.takewhile(lambda c: c[1] <= end, chunks))


def records_in(path: Path, opcode: Opcode) -> list[Record]:
    with RecordFile(path) as file:
        return [part for part in file.walk() if isinstance(part, Record) and part.opcode == opcode]
