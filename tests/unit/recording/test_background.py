import threading
from pathlib import Path

import pytest
from tests.tiny import Ticks
from tests.unit.recording.recorded import conversation, message, read_all

from driftwell.messages.errors import RecordingError
from driftwell.messages.topics import Kind
from driftwell.recording.background import BackgroundWriter
from driftwell.recording.form import OVERHEAD_BYTES, RecordedMessage
from driftwell.recording.writer import RecordingWriter

LIMIT_S = 10


class Disk:
    """A writer that waits, or fails, when the test says so."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.reached = threading.Event()
        self.error: Exception | None = None
        self.written: list[RecordedMessage] = []
        self.is_closed = False

    def write(self, one: RecordedMessage) -> bool:
        self.reached.set()
        assert self.free.wait(LIMIT_S)
        if self.error is not None:
            raise self.error
        self.written.append(one)
        return one.topic != "unfit"

    def tick(self) -> None:
        pass

    def close(self) -> None:
        self.is_closed = True


def test_everything_handed_over_is_written(tmp_path: Path) -> None:
    """What was taken is in the file, in order, when it is closed."""
    messages = conversation(100)
    writer = BackgroundWriter(
        RecordingWriter(tmp_path / "a.mcap", software="test", clock_s=Ticks())
    )

    assert all(writer.write(one) for one in messages)
    writer.close()

    assert read_all(tmp_path / "a.mcap") == messages
    assert writer.left_out == 0


def test_slow_disk_stops_nobody() -> None:
    """When the memory is full messages are left out and counted; nobody waits."""
    disk = Disk()
    small = message(Kind.UPDATE, payload=bytes(1000))
    writer = BackgroundWriter(disk, limit_bytes=3 * (1000 + OVERHEAD_BYTES))

    taken = [writer.write(small) for _ in range(10)]

    assert taken == [True] * 3 + [False] * 7
    disk.free.set()
    writer.close()
    assert (len(disk.written), writer.left_out, disk.is_closed) == (3, 7, True)


@pytest.mark.parametrize(
    "error",
    [RecordingError("disk full"), OSError(28, "full"), MemoryError(), KeyError("full")],
    ids=lambda error: type(error).__name__,
)
def test_failed_disk_ends_the_recording(error: Exception) -> None:
    """After an error nothing more is taken, all is counted, and `close` tells it."""
    disk = Disk()
    disk.error = error
    writer = BackgroundWriter(disk)
    writer.write(message(Kind.ACK))
    writer.write(message(Kind.ACK))
    disk.free.set()

    with pytest.raises(RecordingError, match=r"full|MemoryError"):
        writer.close()

    assert not writer.write(message(Kind.ACK))
    assert (disk.written, writer.left_out, disk.is_closed) == ([], 3, True)


def test_unfit_messages_are_counted() -> None:
    """A message that no recording can hold is counted as left out."""
    disk = Disk()
    disk.free.set()
    writer = BackgroundWriter(disk)
    writer.write(RecordedMessage("unfit", b"", 0, 0))
    writer.write(message(Kind.ACK))
    writer.close()

    assert writer.left_out == 1
    assert len(disk.written) == 2


def test_nothing_is_taken_after_the_end() -> None:
    """A message that comes when the file is closed is left out and counted, not forgotten."""
    disk = Disk()
    disk.free.set()
    writer = BackgroundWriter(disk)
    writer.close()

    assert not writer.write(message(Kind.ACK))
    assert (disk.written, writer.left_out) == ([], 1)
