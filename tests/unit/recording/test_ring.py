import random
from pathlib import Path

import pytest
from tests.tiny import Ticks
from tests.unit.recording.recorded import message, payload_of, read_all

from driftwell.messages.codec import decode, encode
from driftwell.messages.event import Event
from driftwell.messages.topics import Kind
from driftwell.recording.form import OVERHEAD_BYTES, RecordedMessage
from driftwell.recording.recovery import verify
from driftwell.recording.ring import EVENTS, Ring, tells_of
from driftwell.recording.split import ExcerptWriter, Numbered, SplitWriter
from driftwell.recording.writer import RecordingWriter

SIZED = 1000


def _sized(number: int) -> RecordedMessage:
    return message(Kind.UPDATE, number, payload=bytes(SIZED - OVERHEAD_BYTES))


def _event(number: int, word: str) -> RecordedMessage:
    event = decode(payload_of(Kind.EVENT))
    assert isinstance(event, Event)
    fields = {name: getattr(event, name) for name in ("device", "session", "seq", "clock_ns")}
    made = Event(**fields, model=event.model, version=1, event=word)  # type: ignore[arg-type]
    return message(Kind.EVENT, number, payload=encode(made))


def test_old_messages_are_let_go() -> None:
    """A ring holds what came in the last `keep_s` seconds."""
    ring = Ring(keep_s=10)
    for number in range(30):
        ring.add(_sized(number), float(number))

    assert ring.take() == [_sized(number) for number in range(19, 30)]
    assert (len(ring), ring.size_bytes) == (0, 0)


def test_ring_keeps_its_bound() -> None:
    """However long it may keep, a ring holds no more bytes than it was given."""
    ring = Ring(keep_s=1e9, limit_bytes=5 * SIZED)
    for number in range(30):
        ring.add(_sized(number), float(number))
        assert ring.size_bytes <= 5 * SIZED

    assert ring.take() == [_sized(number) for number in range(25, 30)]


def test_message_larger_than_the_ring() -> None:
    """A message that is larger than the whole ring leaves it empty."""
    ring = Ring(keep_s=10, limit_bytes=100)
    ring.add(_sized(0), 0.0)

    assert ring.take() == []


@pytest.mark.parametrize("word", EVENTS)
def test_events_are_recognised(word: str) -> None:
    """Each event a device can tell starts an excerpt if it is asked for, and only then."""
    assert tells_of(_event(0, word), {word})
    assert not tells_of(_event(0, word), set(EVENTS) - {word})


@pytest.mark.parametrize(
    "other",
    [message(Kind.STATE), message(Kind.EVENT, payload=b"x"), RecordedMessage("a", b"", 0, 0)],
)
def test_other_messages_are_no_events(other: RecordedMessage) -> None:
    """Nothing but a well-formed event on an event topic starts an excerpt."""
    assert not tells_of(other, EVENTS)


class Recorder:
    """Writers to test with, and their clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = Ticks()
        self.folder = folder
        self.files = Numbered(folder / "out.mcap", self.begin)

    def begin(self, path: Path) -> RecordingWriter:
        return RecordingWriter(path, software="test", clock_s=self.clock, chunk_bytes=2000)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


def _excerpts(recorder: Recorder) -> ExcerptWriter:
    return ExcerptWriter(
        recorder.files, Ring(keep_s=5), events={"drift"}, after_s=3, clock_s=recorder.clock
    )


def test_excerpt_around_an_event(recorder: Recorder) -> None:
    """An excerpt holds the seconds before the event, the event, and those after it."""
    writer = _excerpts(recorder)
    sent = []
    for second in range(30):
        recorder.clock.now_s = float(second)
        sent.append(_event(second, "drift") if second == 15 else _sized(second))
        writer.write(sent[-1])
    writer.close()

    assert recorder.names == ["out-0001.mcap"]
    assert read_all(recorder.folder / "out-0001.mcap") == sent[10:18]
    assert verify(recorder.folder / "out-0001.mcap").is_whole


def test_event_in_an_excerpt_prolongs_it(recorder: Recorder) -> None:
    """Two events close together are in one file; a later one begins another."""
    writer = _excerpts(recorder)
    for second in range(40):
        recorder.clock.now_s = float(second)
        writer.write(_event(second, "drift" if second in (10, 12, 30) else "applied"))
    writer.close()

    assert recorder.names == ["out-0001.mcap", "out-0002.mcap"]
    assert [len(read_all(recorder.folder / name)) for name in recorder.names] == [10, 8]


def test_quiet_excerpt_is_ended_by_the_clock(recorder: Recorder) -> None:
    """After the event nobody has to say anything for the file to be finished."""
    writer = _excerpts(recorder)
    writer.write(_event(0, "drift"))
    recorder.clock.now_s = 3.0
    writer.tick()

    assert verify(recorder.folder / "out-0001.mcap").is_whole
    writer.close()


def test_no_event_no_file(recorder: Recorder) -> None:
    """Without an event nothing is written at all."""
    writer = _excerpts(recorder)
    for second in range(10):
        writer.write(_event(second, "applied"))
    writer.close()

    assert recorder.names == []


def test_split_by_size(recorder: Recorder) -> None:
    """Files are ended at the size; together they hold every message once, in order."""
    noise = [message(Kind.UPDATE, n, payload=bytes([n]) + _noise(n)) for n in range(60)]
    writer = SplitWriter(recorder.files, clock_s=recorder.clock, limit_bytes=15_000)
    writer.add_document("settings", "a = 1")
    for one in noise:
        writer.write(one)
    writer.close()

    parts = [read_all(recorder.folder / name) for name in recorder.names]
    assert len(parts) > 3
    assert [one for part in parts for one in part] == noise
    assert all(verify(recorder.folder / name).documents == 1 for name in recorder.names)
    assert all((recorder.folder / n).stat().st_size < 25_000 for n in recorder.names)


def _noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(999)


def test_split_by_time(recorder: Recorder) -> None:
    """A file is ended after its time, but an empty one is not."""
    writer = SplitWriter(recorder.files, clock_s=recorder.clock, limit_s=60)
    for second in (0, 30, 59, 60, 500, 501):
        recorder.clock.now_s = float(second)
        writer.tick()
        writer.write(_sized(second))
    writer.close()

    counts = [len(read_all(recorder.folder / name)) for name in recorder.names]
    assert counts == [3, 1, 2]


def test_quiet_night_makes_no_files(recorder: Recorder) -> None:
    """Where nothing comes, one empty file waits; hundreds would be made otherwise."""
    writer = SplitWriter(recorder.files, clock_s=recorder.clock, limit_s=60)
    for hour in range(10):
        recorder.clock.now_s = 3600.0 * hour
        writer.tick()
    writer.close()

    assert recorder.names == ["out-0001.mcap"]


def test_numbers_go_on(recorder: Recorder) -> None:
    """A recorder that starts again writes over none of its files."""
    (recorder.folder / "out-0007.mcap").write_bytes(b"precious")
    (recorder.folder / "out-old.mcap").write_bytes(b"")

    writer = SplitWriter(Recorder(recorder.folder).files, clock_s=recorder.clock, limit_s=60)
    writer.close()

    assert writer.path.name == "out-0008.mcap"
    assert (recorder.folder / "out-0007.mcap").read_bytes() == b"precious"
