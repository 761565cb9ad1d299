import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcap.reader import make_reader
from tests.tiny import Ticks
from tests.unit.recording.recorded import (
    TYPED,
    conversation,
    message,
    read_all,
    save,
    write_recording,
)

from driftwell.messages.errors import RecordingError
from driftwell.messages.topics import Kind
from driftwell.recording.form import RecordedMessage
from driftwell.recording.writer import RecordingWriter


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    """Messages of every kind, and such as do not decode, come back as they came."""
    messages = conversation(200)

    assert read_all(write_recording(tmp_path / "a.mcap", messages)) == messages


def test_any_mcap_reader_reads_it(tmp_path: Path) -> None:
    """Another MCAP reader finds every message, its clocks, encodings and JSON schemas."""
    path = write_recording(tmp_path / "a.mcap", map(message, TYPED), views=False)

    with path.open("rb") as file:
        found = list(make_reader(file).iter_messages())

    assert {channel.message_encoding for _, channel, _ in found} == {"msgpack"}
    assert all(schema and schema.encoding == "jsonschema" for schema, _, _ in found)
    assert {record.publish_time for _, _, record in found} == {message(Kind.ACK).sent_ns}
    assert {record.log_time for _, _, record in found} == {message(Kind.ACK).received_ns}


def test_file_that_is_there_is_kept(tmp_path: Path) -> None:
    """A recording is replaced only on request, and the error says how."""
    path = write_recording(tmp_path / "a.mcap", conversation(3))

    with pytest.raises(RecordingError, match="--force"):
        RecordingWriter(path, software="test", clock_s=Ticks())
    assert len(read_all(path)) == 3


def test_chunk_is_ended_after_flush_s(tmp_path: Path) -> None:
    """A quiet recording is on the disk after `flush_s` seconds, without another message."""
    clock = Ticks()
    writer = RecordingWriter(tmp_path / "a.mcap", software="test", clock_s=clock, flush_s=5)
    writer.write(message(Kind.STATE))
    before = writer.size_bytes
    clock.now_s = 4.9
    writer.tick()
    assert writer.size_bytes == before
    clock.now_s = 5.0
    writer.tick()

    salvage = save(tmp_path / "a.mcap", tmp_path / "b.mcap")

    writer.close()
    assert salvage.messages == 1


@pytest.mark.parametrize(
    "unfit",
    [
        RecordedMessage("a", b"", -1, 0),
        RecordedMessage("a", b"", 0, 2**64),
        RecordedMessage("a" * 70_000, b"", 0, 0),
        RecordedMessage("view/home/cam-1/state", b"", 0, 0),
    ],
    ids=["before 1970", "clock too late", "topic too long", "topic of a view"],
)
def test_unfit_message_is_left_out(tmp_path: Path, unfit: RecordedMessage) -> None:
    """A message that no recording can hold is refused, and the recording goes on."""
    path = tmp_path / "a.mcap"
    with RecordingWriter(path, software="test", clock_s=Ticks()) as writer:
        assert not writer.write(unfit)
        assert writer.write(message(Kind.ACK))

    assert read_all(path) == [message(Kind.ACK)]


def test_too_many_topics_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MCAP numbers channels with 16 bits; beyond that topics are left out, the rest is kept."""
    monkeypatch.setattr("driftwell.recording.writer.MAX_TOPICS", 3)
    path = tmp_path / "a.mcap"
    with RecordingWriter(path, software="test", clock_s=Ticks()) as writer:
        written = [writer.write(RecordedMessage(f"t/{n % 5}", b"", n, n)) for n in range(10)]

    assert written == [True, True, True, False, False] * 2
    assert len(read_all(path)) == 6


@pytest.fixture
def small_disk() -> Iterator[int]:
    """No file of this process may be larger than the number of bytes given."""
    limit, hard = 60_000, resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, hard)
    signal.signal(signal.SIGXFSZ, before)


def test_full_disk(tmp_path: Path, small_disk: int) -> None:
    """When the disk is full the error says so, and every chunk before it can be recovered."""
    path = tmp_path / "a.mcap"
    noise = [message(Kind.UPDATE, n, payload=os.urandom(1000)) for n in range(100)]
    writer = RecordingWriter(path, software="test", clock_s=Ticks(), chunk_bytes=10_000)

    with pytest.raises(RecordingError, match="recover"):
        _write_all(writer, noise)
    with pytest.raises(RecordingError, match="closed"):
        writer.flush()
    writer.close()

    assert path.stat().st_size <= small_disk
    salvage = save(path, tmp_path / "b.mcap")
    assert salvage.losses.bytes == 0
    assert salvage.messages >= 30
    assert read_all(tmp_path / "b.mcap") == noise[: salvage.messages]


def _write_all(writer: RecordingWriter, messages: list[RecordedMessage]) -> None:
    for one in messages:
        writer.write(one)
