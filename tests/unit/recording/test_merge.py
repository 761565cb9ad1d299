from pathlib import Path

import pytest
from tests.tiny import Ticks
from tests.unit.recording.recorded import (
    broken,
    conversation,
    is_subsequence,
    message,
    read_all,
    save,
    write_recording,
)

from driftwell.messages.errors import RecordingError
from driftwell.messages.topics import Kind
from driftwell.recording.form import RecordedMessage
from driftwell.recording.merge import Merged, merge_recordings
from driftwell.recording.reader import Recording
from driftwell.recording.recovery import verify
from driftwell.recording.writer import RecordingWriter


def _merge(paths: list[Path], out: Path) -> Merged:
    return merge_recordings(paths, out, software="test", clock_s=Ticks())


def test_by_receive_time(tmp_path: Path) -> None:
    """Messages of several files come in the order in which they were received."""
    every = [message(Kind.EVENT, n) for n in range(60)]
    paths = [write_recording(tmp_path / f"{k}.mcap", every[k::3]) for k in range(3)]

    merged = _merge(paths, tmp_path / "out.mcap")

    assert merged == Merged(messages=60, documents=1)
    assert read_all(tmp_path / "out.mcap") == every
    assert verify(tmp_path / "out.mcap").is_whole


def test_each_files_order_is_kept(tmp_path: Path) -> None:
    """A clock that jumps back in one file loses nothing and reorders nothing of it."""
    jumping = [message(Kind.EVENT, n, device="cam-5") for n in (5, 6, 50, 1, 2, 3, 60)]
    steady = [message(Kind.EVENT, n) for n in range(20)]
    paths = [
        write_recording(tmp_path / "a.mcap", jumping),
        write_recording(tmp_path / "b.mcap", steady),
    ]

    _merge(paths, tmp_path / "out.mcap")

    found = read_all(tmp_path / "out.mcap")
    assert len(found) == 27
    assert is_subsequence(jumping, found)
    assert is_subsequence(steady, found)


def test_documents_are_united(tmp_path: Path) -> None:
    """Equal documents stand once; of different ones with one name none is lost."""
    paths = []
    for name, text in (("a", "x = 1"), ("b", "x = 1"), ("c", "x = 2")):
        paths.append(tmp_path / f"{name}.mcap")
        with RecordingWriter(paths[-1], software="test", clock_s=Ticks()) as writer:
            writer.add_document("settings", text)
            writer.write(message(Kind.ACK))

    _merge(paths, tmp_path / "out.mcap")

    with Recording(tmp_path / "out.mcap") as recording:
        assert recording.documents() == {"settings": "x = 1", "settings (c.mcap)": "x = 2"}


def test_documents_of_files_of_one_name_are_united(tmp_path: Path) -> None:
    """Parts in several folders often have one name; no text of theirs is lost, and none twice."""
    paths = []
    for number, text in enumerate(("x = 1", "x = 2", "x = 3", "x = 2")):
        paths.append(tmp_path / str(number) / "run.mcap")
        with RecordingWriter(paths[-1], software="test", clock_s=Ticks()) as writer:
            writer.add_document("settings", text)

    merged = _merge(paths, tmp_path / "out.mcap")

    with Recording(tmp_path / "out.mcap") as recording:
        assert recording.documents() == {
            "settings": "x = 1", "settings (run.mcap)": "x = 2", "settings (run.mcap 2)": "x = 3",
        }  # fmt: skip
    assert merged.documents == 3


def test_what_one_recording_cannot_hold_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two recordings may have more topics together than one may have: it is said how much is lost.

    So is what `recover` cannot take.
    """
    paths = [
        write_recording(tmp_path / f"{name}.mcap", [RecordedMessage(f"{name}/{n}", b"", n, n)
                                                    for n in range(5)])
        for name in ("a", "b")
    ]  # fmt: skip
    monkeypatch.setattr("driftwell.recording.writer.MAX_TOPICS", 3)

    merged = _merge(paths, tmp_path / "out.mcap")
    salvage = save(paths[0], tmp_path / "saved.mcap")

    assert (merged.messages, merged.left_out) == (3, 7)
    assert (salvage.messages, salvage.left_out) == (3, 2)


def test_damaged_part_is_refused(tmp_path: Path) -> None:
    """A file that was not closed is named, before anything is written."""
    path = write_recording(tmp_path / "a.mcap", conversation(10))
    other = broken(path, path.read_bytes()[:-20])

    with pytest.raises(RecordingError, match=r"broken\.mcap"):
        _merge([path, other], tmp_path / "out.mcap")
    assert not (tmp_path / "out.mcap").exists()


def test_merging_onto_a_part_is_refused(tmp_path: Path) -> None:
    """None of the parts is written over."""
    path = write_recording(tmp_path / "a.mcap", conversation(10))

    with pytest.raises(RecordingError, match="itself"):
        merge_recordings([path], path, software="test", clock_s=Ticks(), overwrite=True)
    assert len(read_all(path)) == 10
