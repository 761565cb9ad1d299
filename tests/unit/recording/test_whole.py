"""What `merge` and `recover` write has its name only once it is finished."""

from pathlib import Path

import pytest
from tests.tiny import Ticks
from tests.unit.recording.recorded import chunks_of, conversation, read_all, save, write_recording

from driftwell.messages.errors import RecordingError
from driftwell.recording.merge import merge_recordings
from driftwell.recording.recovery import recover, verify
from driftwell.recording.whole import write_whole
from driftwell.recording.writer import RecordingWriter

MESSAGES = conversation(60)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _interrupt(done: int, _total: int) -> None:
    if done > 10:
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "replacing"])
def test_interrupted_work_leaves_nothing_behind(tmp_path: Path, is_there: bool) -> None:
    """Neither half a recording under the name asked for, nor the loss of the one that was there."""
    path, out = write_recording(tmp_path / "a.mcap", MESSAGES), tmp_path / "out.mcap"
    if is_there:
        write_recording(out, MESSAGES[:5])
    before = _names(tmp_path)

    with pytest.raises(KeyboardInterrupt):
        merge_recordings(
            [path], out, software="test", clock_s=Ticks(), overwrite=True, progress=_interrupt
        )
    with pytest.raises(KeyboardInterrupt):
        recover(path, out, software="test", clock_s=Ticks(), overwrite=True, progress=_interrupt)

    assert _names(tmp_path) == before
    assert not is_there or read_all(out) == MESSAGES[:5]


def test_part_that_is_damaged_leaves_nothing_behind(tmp_path: Path) -> None:
    """A damage in the middle of a part is an error, and no recording."""
    path = write_recording(tmp_path / "a.mcap", MESSAGES)
    start, end, _ = chunks_of(path)[3]
    content = bytearray(path.read_bytes())
    content[(start + end) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(RecordingError, match="damaged"):
        merge_recordings([path], tmp_path / "out.mcap", software="test", clock_s=Ticks())

    assert _names(tmp_path) == ["a.mcap"]


def test_unfinished_work_can_be_read_meanwhile(tmp_path: Path) -> None:
    """What a dead `merge` left is recovered to another name, not written over while it is read."""
    left = write_recording(tmp_path / "out.mcap.part", MESSAGES)

    with pytest.raises(RecordingError, match="itself is read"):
        save(left, tmp_path / "out.mcap")
    save(left, tmp_path / "saved.mcap")

    assert read_all(left) == read_all(tmp_path / "saved.mcap") == MESSAGES


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    """Without --force nothing is replaced, whenever it came."""
    out = tmp_path / "out.mcap"

    def write() -> None:
        with write_whole(
            out, [], software="test", clock_s=Ticks(), views=False, overwrite=False
        ) as writer:
            writer.write(MESSAGES[0])
            out.write_bytes(b"precious")

    with pytest.raises(RecordingError, match="--force"):
        write()
    assert _names(tmp_path) == ["out.mcap"]
    assert out.read_bytes() == b"precious"


def test_recording_that_ends_with_an_error_is_not_finished(tmp_path: Path) -> None:
    """It looks as one that was not closed, and every message that was written is recovered."""
    path = tmp_path / "a.mcap"

    def fail() -> None:
        with RecordingWriter(path, software="test", clock_s=Ticks()) as writer:
            for one in MESSAGES:
                writer.write(one)
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert not verify(path).is_closed
    assert save(path, tmp_path / "saved.mcap").messages == len(MESSAGES)
    assert read_all(tmp_path / "saved.mcap") == MESSAGES
