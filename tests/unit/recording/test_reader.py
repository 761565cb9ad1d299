from pathlib import Path

import pytest
from mcap.writer import Writer
from tests.unit.recording.recorded import (
    SETTINGS,
    START_NS,
    broken,
    chunks_of,
    conversation,
    flipped,
    message,
    read_all,
    write_recording,
)

from driftwell.messages.errors import RecordingError
from driftwell.messages.topics import Kind
from driftwell.recording.form import RecordedMessage
from driftwell.recording.reader import Recording, Selection
from driftwell.recording.recovery import recover, verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "a.mcap", conversation(100))


def test_selection(path: Path) -> None:
    """A selection by kind, device and time gives what a filter over all messages gives."""
    wanted = Selection(
        kinds={Kind.ACK, Kind.HEAD}, devices={"cam-5"}, start_ns=START_NS + 20 * 10**6,
        end_ns=START_NS + 70 * 10**6,
    )  # fmt: skip

    with Recording(path) as recording:
        selected = list(recording.messages(wanted))

    assert selected == [
        one
        for one in read_all(path)
        if one.topic in ("driftwell/v1/home/cam-5/ack", "driftwell/v1/home/cam-5/head")
        and START_NS + 20 * 10**6 <= one.received_ns < START_NS + 70 * 10**6
    ]
    assert selected


def test_documents(path: Path) -> None:
    """A text beside the messages comes back."""
    with Recording(path) as recording:
        assert recording.documents() == {"settings": SETTINGS}


def test_altered_document_is_refused(path: Path) -> None:
    """A byte changed in a document is an error, not another setting."""
    content = path.read_bytes()
    other = broken(path, flipped(content, content.index(SETTINGS.encode())))

    with Recording(other) as recording, pytest.raises(RecordingError, match="recover"):
        recording.documents()


def test_messages_before_a_damaged_chunk_are_given(path: Path) -> None:
    """Whoever reads a damaged file gets all before the damage, then the way out."""
    chunks = chunks_of(path)
    start, end, _ = chunks[2]
    other = broken(path, flipped(path.read_bytes(), (start + end) // 2))
    got: list[RecordedMessage] = []

    with Recording(other) as recording, pytest.raises(RecordingError, match="recording recover"):
        got.extend(recording.messages())

    assert got == read_all(path)[: chunks[0][2] + chunks[1][2]]
    assert got


def test_file_that_was_not_closed_is_refused(path: Path) -> None:
    """A file without its index is refused with the command that mends it."""
    other = broken(path, path.read_bytes()[:-1])

    with pytest.raises(RecordingError, match="recording recover"):
        Recording(other)


def _mcap(path: Path, profile: str) -> Path:
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile)
        writer.finish()
    return path


@pytest.mark.parametrize("cut", [0, 60])
@pytest.mark.parametrize(
    ("profile", "words"),
    [("ros2", "not a recording"), ("driftwell-2", "schema 2"), ("driftwell-0", "schema 0")],
)
def test_other_profiles_are_refused(tmp_path: Path, profile: str, words: str, cut: int) -> None:
    """Foreign files and other schema majors are told apart, with an index and without."""
    path = _mcap(tmp_path / "a.mcap", profile)
    other = broken(path, path.read_bytes()[: -cut or None])

    with pytest.raises(RecordingError, match=words):
        Recording(other)
    with pytest.raises(RecordingError, match=words):
        verify(other)
    with pytest.raises(RecordingError, match=words):
        recover(other, tmp_path / "out.mcap", software="test", clock_s=float)
    assert not (tmp_path / "out.mcap").exists()


@pytest.mark.parametrize("content", [b"", b"\x89MCAP", b"PK\x03\x04" + bytes(1000)])
def test_no_mcap_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """What is no MCAP file at all is refused by every command."""
    path = tmp_path / "a.mcap"
    path.write_bytes(content)

    with pytest.raises(RecordingError, match="not an MCAP file"):
        Recording(path)
    with pytest.raises(RecordingError, match="not an MCAP file"):
        verify(path)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(RecordingError, match=r"a\.mcap cannot be read"):
        Recording(tmp_path / "a.mcap")


def test_order_is_the_files(tmp_path: Path) -> None:
    """A clock that jumps back changes neither order nor number."""
    messages = [message(Kind.EVENT, n) for n in (5, 6, 2, 3, 9, 1)]
    path = write_recording(tmp_path / "a.mcap", messages, chunk_bytes=300)

    assert read_all(path) == messages
    assert verify(path).received_jumps == 2
