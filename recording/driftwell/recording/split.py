"""A recording in several files: a new one by size or time, or one for each event.

The files of OUT.mcap are OUT-0001.mcap, OUT-0002.mcap and so on. Numbers go on after the
highest that is there, so that a recorder that starts again writes over nothing.
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from driftwell.messages.errors import RecordingError
from driftwell.recording.form import RecordedMessage
from driftwell.recording.ring import Ring, tells_of
from driftwell.recording.writer import RecordingWriter

Open = Callable[[Path], RecordingWriter]
"""Begins a file."""


class Numbered:
    """Names for the files of one recording, and the documents that stand in each."""

    def __init__(self, path: Path, begin: Open, *, first_plain: bool = False) -> None:
        """Find out which numbers are taken.

        Args:
            path: OUT.mcap.
            begin: Begins a file.
            first_plain: Whether the first file is OUT.mcap itself.

        Raises:
            RecordingError: if the folder cannot be read.
        """
        self.path = path
        self.documents: dict[str, str] = {}
        self._begin = begin
        self._is_plain_next = first_plain
        self._number = _highest(path)

    def begin_next(self) -> RecordingWriter:
        """Begin the next file.

        Raises:
            RecordingError: if the disk does not take it.
        """
        writer = self._begin(self._next_path())
        for name, text in self.documents.items():
            writer.add_document(name, text)
        return writer

    def _next_path(self) -> Path:
        if self._is_plain_next:
            self._is_plain_next = False
            return self.path
        self._number += 1
        return self.path.with_stem(f"{self.path.stem}-{self._number:04}")


class SplitWriter:
    """Writes one file after the other; each is a whole recording.

    Whatever its limits, a file that is full is ended, and the next one begun.
    """

    def __init__(
        self,
        files: Numbered,
        *,
        clock_s: Callable[[], float],
        limit_bytes: int | None = None,
        limit_s: float | None = None,
    ) -> None:
        """Begin the first file.

        Args:
            files: Where the files go.
            clock_s: Monotonic seconds.
            limit_bytes: A file is ended once it is this large; it may be a chunk larger.
            limit_s: A file is ended after so many seconds.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._files = files
        self._clock_s = clock_s
        self._limit_bytes = limit_bytes
        self._limit_s = limit_s
        self._began_s = clock_s()
        self._writer = files.begin_next()
        self.first = self._writer.path
        """The first file."""

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self._writer.path

    def write(self, message: RecordedMessage) -> bool:
        """Add one message; False if no recording can hold it.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._turn_if_due()
        return self._writer.write(message)

    def add_document(self, name: str, text: str) -> None:
        """Keep a text in this file and in every later one.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._files.documents[name] = text
        self._writer.add_document(name, text)

    def tick(self) -> None:
        """End the chunk, or the file, if it is old enough.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._turn_if_due()
        self._writer.tick()

    def close(self) -> None:
        """Finish the last file.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._writer.close()

    def _turn_if_due(self) -> None:
        # An empty file is not ended: a quiet night would leave hundreds of them.
        if not self._writer.messages:
            return
        now_s = self._clock_s()
        is_large = self._limit_bytes is not None and self._writer.size_bytes >= self._limit_bytes
        is_old = self._limit_s is not None and now_s - self._began_s >= self._limit_s
        if is_large or is_old or self._writer.is_full:
            self._writer.close()
            self._writer = self._files.begin_next()
            self._began_s = now_s


class ExcerptWriter:
    """Keeps the last minutes in memory, and writes them when a device tells of an event."""

    def __init__(
        self,
        files: Numbered,
        ring: Ring,
        *,
        events: Collection[str],
        after_s: float,
        clock_s: Callable[[], float],
    ) -> None:
        """Begin to listen; nothing is written yet.

        Args:
            files: Where the files go, one an event.
            ring: What is kept in memory.
            events: Of which events.
            after_s: Seconds that are written after the event; another event prolongs them.
            clock_s: Monotonic seconds.
        """
        self._files = files
        self._ring = ring
        self._events = events
        self._after_s = after_s
        self._clock_s = clock_s
        self._until_s = 0.0
        self._writer: RecordingWriter | None = None
        self.written: list[Path] = []
        """The files so far."""

    def write(self, message: RecordedMessage) -> bool:
        """Take one message: into memory, or into the file that is being written.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._end_if_due()
        is_event = tells_of(message, self._events)
        if is_event:
            self._until_s = self._clock_s() + self._after_s
        if self._writer is not None:
            if self._writer.is_full:
                self.close()
                self._writer = self._begin_file()
            return self._writer.write(message)
        self._ring.add(message, self._clock_s())
        if is_event:
            self._begin()
        return True

    def tick(self) -> None:
        """End the file if it is old enough.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._end_if_due()
        if self._writer is not None:
            self._writer.tick()

    def close(self) -> None:
        """Finish the file that is being written, if there is one.

        Raises:
            RecordingError: if the disk does not take it.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _begin(self) -> None:
        self._writer = self._begin_file()
        for message in self._ring.take():
            self._writer.write(message)
        self._writer.flush()

    def _begin_file(self) -> RecordingWriter:
        writer = self._files.begin_next()
        self.written.append(writer.path)
        return writer

    def _end_if_due(self) -> None:
        if self._writer is not None and self._clock_s() >= self._until_s:
            self.close()


def _highest(path: Path) -> int:
    pattern = re.compile(rf"{re.escape(path.stem)}-(\d+){re.escape(path.suffix)}")
    try:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError as error:
        raise RecordingError(f"{path.parent} cannot be read: {error.strerror}") from error
    found = (pattern.fullmatch(name) for name in names)
    return max((int(match[1]) for match in found if match), default=0)
