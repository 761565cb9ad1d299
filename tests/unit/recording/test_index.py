"""The index of a recording: damaged, lying, or as the library would write it."""

import struct
import zlib
from pathlib import Path

import pytest
from mcap.opcode import Opcode
from mcap.reader import make_reader
from tests.unit.recording.recorded import (
    broken,
    conversation,
    flipped,
    records_in,
    write_recording,
)

from driftwell.messages.errors import RecordingError
from driftwell.recording.reader import Recording
from driftwell.recording.recovery import verify

MESSAGES = conversation(120)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "a.mcap", MESSAGES)


@pytest.mark.parametrize(
    "opcode", [Opcode.MESSAGE_INDEX, Opcode.CHUNK_INDEX, Opcode.STATISTICS], ids=lambda o: o.name
)
def test_wrong_index_is_noticed(path: Path, opcode: Opcode) -> None:
    """An index that says other than the chunks is told, and loses nothing."""
    record = records_in(path, opcode)[-1]
    other = broken(path, flipped(path.read_bytes(), record.end - 1))

    verdict = verify(other)

    assert not verdict.is_whole
    assert verdict.index_faults or not verdict.is_closed
    assert verdict.messages == len(MESSAGES)


def _index_begins(content: bytes) -> int:
    start: int = struct.unpack_from("<Q", content, len(content) - 8 - 20)[0]
    return start


def test_altered_index_is_no_index(path: Path) -> None:
    """A byte changed in the index is noticed, wherever it is, by whoever opens the file."""
    content = path.read_bytes()
    for place in range(_index_begins(content), len(content), 11):
        with pytest.raises(RecordingError, match="recover"):
            Recording(broken(path, flipped(content, place)))


def test_index_that_lies_is_noticed(path: Path) -> None:
    """An index with a right checksum that says other than the chunks is told."""
    content = bytearray(path.read_bytes())
    record = records_in(path, Opcode.CHUNK_INDEX)[1]
    content[record.offset + 9] ^= 1  # the time of its first message
    start, place = _index_begins(bytes(content)), len(content) - 8 - 4
    content[place : place + 4] = struct.pack("<I", zlib.crc32(content[start:place]))

    verdict = verify(broken(path, bytes(content)))

    assert verdict.is_closed
    assert (verdict.index_faults, verdict.is_whole) == (2, False)


def test_index_is_what_the_library_writes(tmp_path: Path) -> None:
    """The MCAP library finds every message through the index, by topic and time."""
    path = write_recording(tmp_path / "a.mcap", MESSAGES)
    topic = "driftwell/v1/home/cam-6/telemetry"
    start_ns, end_ns = MESSAGES[30].received_ns, MESSAGES[100].received_ns

    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        read = reader.iter_messages(topic, starting_at=start_ns, ending_before=end_ns)
        found = [record.data for _, _, record in read]
        summary = reader.get_summary()

    assert found == [m.payload for m in MESSAGES[30:100] if m.topic == topic]
    assert found
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.schema_count == len(summary.schemas) > 10
    assert summary.statistics.chunk_count == len(summary.chunk_indexes)
