"""The index of a file is small, has a bound, and a recorder goes on beyond it."""

from pathlib import Path

import pytest
from tests.tiny import Ticks
from tests.unit.recording.recorded import message, read_all
from tests.unit.recording.test_ring import _event

from driftwell.messages.errors import RecordingError
from driftwell.messages.topics import Kind
from driftwell.recording.form import RecordedMessage
from driftwell.recording.recovery import verify
from driftwell.recording.ring import Ring
from driftwell.recording.split import ExcerptWriter, Numbered, SplitWriter
from driftwell.recording.writer import RecordingWriter

BOUND = 1000
CHUNKS = 30


def _begin(path: Path) -> RecordingWriter:
    return RecordingWriter(path, software="test", clock_s=Ticks(), chunk_bytes=1, views=False)


@pytest.fixture
def _small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftwell.recording.writer.MAX_INDEX", BOUND)


def _read(folder: Path) -> list[tuple[str, list[RecordedMessage]]]:
    paths = sorted(folder.iterdir())
    assert all(verify(path).is_whole for path in paths)
    return [(path.name, read_all(path)) for path in paths]


def test_index_is_small(tmp_path: Path) -> None:
    """About 80 bytes a chunk and 10 for each channel in it, however many there are."""
    writer = RecordingWriter(tmp_path / "a.mcap", software="test", clock_s=Ticks(), views=False)
    for chunk in range(CHUNKS):
        for topic in range(100):
            writer.write(RecordedMessage(f"t/{topic}", b"", chunk, chunk))
        writer.flush()

    assert writer._chunking.index_bytes <= CHUNKS * (90 + 10 * 100)
    writer.close()
    assert verify(tmp_path / "a.mcap").is_whole


@pytest.mark.usefixtures("_small_bound")
def test_full_file_takes_nothing_more(tmp_path: Path) -> None:
    """The error says so, and the file is whole when it is closed."""
    writer = _begin(tmp_path / "a.mcap")

    def write() -> None:
        for number in range(CHUNKS):
            writer.write(message(Kind.ACK, number))

    with pytest.raises(RecordingError, match=r"a\.mcap is full"):
        write()
    writer.close()

    [(_, found)] = _read(tmp_path)
    assert found == [message(Kind.ACK, number) for number in range(len(found))]
    assert 5 < len(found) < CHUNKS


@pytest.mark.usefixtures("_small_bound")
def test_recorder_goes_on_in_a_numbered_file(tmp_path: Path) -> None:
    """Also one that was not asked for several files: its first has the plain name."""
    sent = [message(Kind.ACK, number) for number in range(CHUNKS)]
    writer = SplitWriter(Numbered(tmp_path / "out.mcap", _begin, first_plain=True), clock_s=Ticks())
    for one in sent:
        assert writer.write(one)
    writer.close()

    files = dict(_read(tmp_path))
    assert {"out.mcap", "out-0001.mcap", "out-0002.mcap"} <= files.keys()
    found = files.pop("out.mcap") + [one for _, part in sorted(files.items()) for one in part]
    assert found == sent
    assert (writer.first.name, writer.path.name) == ("out.mcap", max(files))


@pytest.mark.usefixtures("_small_bound")
def test_long_excerpt_goes_on_in_the_next_file(tmp_path: Path) -> None:
    """An excerpt that many events prolong loses nothing."""
    sent = [_event(number, "drift") for number in range(CHUNKS)]
    writer = ExcerptWriter(
        Numbered(tmp_path / "out.mcap", _begin), Ring(keep_s=5), events={"drift"}, after_s=3,
        clock_s=Ticks(),
    )  # fmt: skip
    for one in sent:
        assert writer.write(one)
    writer.close()

    assert [one for _, part in _read(tmp_path) for one in part] == sent
    assert len(writer.written) > 2
