"""Recordings under any input: what was written is read, and damage never passes for truth."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import Ticks
from tests.unit.recording.recorded import (
    SETTINGS,
    broken,
    chunks_of,
    conversation,
    flipped,
    is_subsequence,
    messages_before,
    read_all,
    save,
    write_recording,
)

from driftwell.messages.errors import RecordingError
from driftwell.messages.topics import Kind, device_topic
from driftwell.recording.form import RecordedMessage
from driftwell.recording.reader import Recording
from driftwell.recording.recovery import verify
from driftwell.recording.view import VIEWS, view_of
from driftwell.recording.writer import RecordingWriter

MESSAGES = conversation(150, seed=7)
HEADER = 40  # bytes at the beginning without which a file is no recording

times = st.integers(0, 2**63 - 1)
topics = st.one_of(
    st.text(max_size=30).filter(lambda text: text.isprintable()),
    st.sampled_from(Kind).map(lambda kind: device_topic("home", "cam-1", kind)),
)
messages = st.builds(RecordedMessage, topics, st.binary(max_size=300), times, times)


class Written:
    """One recording, to be broken again and again."""

    def __init__(self, folder: Path) -> None:
        self.path = write_recording(folder / "a.mcap", MESSAGES)
        self.out = folder / "saved.mcap"
        self.content = self.path.read_bytes()
        self.chunks = chunks_of(self.path)


@pytest.fixture(scope="module")
def written() -> Iterator[Written]:
    with TemporaryDirectory() as folder:
        yield Written(Path(folder))


@given(some=st.lists(messages, max_size=30), chunk_bytes=st.integers(1, 3000), views=st.booleans())
def test_round_trip(some: list[RecordedMessage], chunk_bytes: int, views: bool) -> None:
    """Whatever the topics, payloads and clocks: what is written is read, in order."""
    some = [one for one in some if not one.topic.startswith("view/")]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.mcap"
        with RecordingWriter(
            path, software="test", clock_s=Ticks(), chunk_bytes=chunk_bytes, views=views
        ) as writer:
            for one in some:
                assert writer.write(one)

        assert read_all(path) == some
        assert verify(path).is_whole


@given(data=st.data())
def test_cut_anywhere(written: Written, data: st.DataObject) -> None:
    """A file cut at any byte gives back every message of each complete chunk."""
    cut = data.draw(st.integers(0, len(written.content) - 1))
    other = broken(written.path, written.content[:cut])

    with pytest.raises(RecordingError):
        Recording(other)
    if cut < HEADER:
        return
    salvage = save(other, written.out)

    expected = messages_before(written.chunks, cut)
    assert salvage.messages == expected
    assert read_all(written.out) == MESSAGES[:expected]
    assert not verify(other).is_whole
    assert verify(written.out).is_whole


@given(data=st.data())
def test_flip_anywhere(written: Written, data: st.DataObject) -> None:
    """One wrong bit anywhere: no reader is told anything false, and one chunk is lost at most."""
    place = data.draw(st.integers(0, len(written.content) - 1))
    other = broken(written.path, flipped(written.content, place, data.draw(st.integers(0, 7))))

    _assert_nothing_false(other)
    if place < HEADER:
        return
    save(other, written.out)

    saved = read_all(written.out)
    largest = max(count for _, _, count in written.chunks)
    assert is_subsequence(saved, MESSAGES)
    assert len(saved) >= len(MESSAGES) - largest


@given(data=st.data())
def test_any_damage(written: Written, data: st.DataObject) -> None:
    """Bytes replaced, taken out or put in: RecordingErrors at most, and nothing false is saved."""
    content = written.content
    start = data.draw(st.integers(HEADER, len(content) - 1))
    end = min(len(content), start + data.draw(st.integers(0, 4000)))
    other = broken(
        written.path, content[:start] + data.draw(st.binary(max_size=60)) + content[end:]
    )

    _assert_nothing_false(other)
    save(other, written.out)

    assert is_subsequence(read_all(written.out), MESSAGES)


@given(content=st.binary(max_size=400))
def test_noise_is_no_recording(written: Written, content: bytes) -> None:
    """A file of noise, with the right beginning or without, is refused."""
    for beginning in (b"", written.content[:8], written.content[:HEADER]):
        other = broken(written.path, beginning + content)

        with pytest.raises(RecordingError):
            Recording(other)


@given(kind=st.sampled_from(Kind), payload=st.binary(max_size=500))
def test_noise_has_no_view(kind: Kind, payload: bytes) -> None:
    """Whatever bytes come, a view is made or not; nothing else comes out."""
    found = view_of(kind, payload)

    assert found is None or found[0] in VIEWS


def _assert_nothing_false(path: Path) -> None:
    """Reading gives a prefix and an error, or all; `verify` ends in a verdict or an error."""
    got: list[RecordedMessage] = []
    try:
        verify(path)
        with Recording(path) as recording:
            got.extend(recording.messages())
            documents = recording.documents()
    except RecordingError:
        assert got == MESSAGES[: len(got)]
    else:
        assert got == MESSAGES
        assert documents == {"settings": SETTINGS}
