"""Writes a recording: whole chunks only, so that a full disk or a power cut costs the last one.

The file holds complete chunks at every moment. What is not yet in one is in memory, at most
`chunk_bytes` and for at most `flush_s` seconds (if `tick` is called often enough).
"""

import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from driftwell.messages.errors import MalformedError, RecordingError
from driftwell.messages.topics import Kind, parse_topic
from driftwell.recording.chunking import Chunking
from driftwell.recording.form import (
    MAX_TOPICS,
    PROFILE,
    ChannelForm,
    RecordedMessage,
    document_fields,
    is_recordable,
    message_form,
    view_form,
    view_topic,
)
from driftwell.recording.view import view_of

CHUNK_BYTES: Final = 1_000_000
FLUSH_S: Final = 5.0


class RecordingWriter:
    """One recording in the making. Not thread safe: see `background.py`."""

    def __init__(
        self,
        path: Path,
        *,
        software: str,
        clock_s: Callable[[], float],
        chunk_bytes: int = CHUNK_BYTES,
        flush_s: float = FLUSH_S,
        views: bool = True,
        overwrite: bool = False,
    ) -> None:
        """Begin a file.

        Args:
            path: The file.
            software: Name and version of the recording program.
            clock_s: Monotonic seconds.
            chunk_bytes: Uncompressed bytes of a chunk.
            flush_s: Seconds after which a chunk is ended however small it is.
            views: Whether the numbers of each message also stand there as JSON, for Foxglove.
            overwrite: Whether a file that is there may be replaced.

        Raises:
            RecordingError: if the file is there, or cannot be made.
        """
        self.path = path
        self.messages = 0
        self._flush_s = flush_s
        self._clock_s = clock_s
        self._flushed_s = clock_s()
        self._views = views
        self._channels: dict[str, int] = {}
        self._kinds: dict[str, Kind | None] = {}
        self._schemas: dict[str, int] = {}
        self._file = _WholeWrites(path, overwrite=overwrite)
        self._chunking = Chunking(
            self._file, profile=PROFILE, library=software, chunk_bytes=chunk_bytes
        )
        self._save()

    def write(self, message: RecordedMessage) -> bool:
        """Add one message; False if no recording can hold it (see `is_recordable`).

        Raises:
            RecordingError: if the disk does not take it. The file holds all chunks before.
        """
        if not is_recordable(message):
            return False
        channel = self._channels.get(message.topic) or self._add_topic(message.topic)
        if not channel:
            return False
        self._add(channel, message, message.payload)
        if self._views:
            self._add_view(message)
        self.messages += 1
        if self._file.is_dirty:
            self._save()
        self.tick()
        return True

    def add_document(self, name: str, text: str) -> None:
        """Keep a text beside the messages, such as the settings of the run.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._chunking.add_metadata(name, document_fields(name, text))
        self._save()

    def tick(self) -> None:
        """End the chunk if it is old enough.

        Raises:
            RecordingError: if the disk does not take it.
        """
        if self._clock_s() - self._flushed_s >= self._flush_s:
            self.flush()

    def flush(self) -> None:
        """End the chunk and wait until it is on the disk.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._chunking.end_chunk()
        self._save()
        self._file.sync()
        self._flushed_s = self._clock_s()

    @property
    def size_bytes(self) -> int:
        """Of the file as it is now."""
        return self._file.size_bytes

    def close(self) -> None:
        """Write the index and close the file.

        Raises:
            RecordingError: if the disk does not take it; `recover` makes a new index.
        """
        try:
            if not self._file.is_closed:
                self._chunking.finish()
                self._save()
                self._file.sync()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _add_topic(self, topic: str) -> int:
        if len(self._kinds) >= MAX_TOPICS:
            return 0
        kind = self._kinds[topic] = _kind(topic)
        return self._add_channel(topic, message_form(kind))

    def _add_view(self, message: RecordedMessage) -> None:
        found = view_of(self._kinds[message.topic], message.payload)
        if found is None:
            return
        view, content = found
        topic = view_topic(message.topic)
        channel = self._channels.get(topic) or self._add_channel(topic, view_form(view))
        self._add(channel, message, content)

    def _add_channel(self, topic: str, form: ChannelForm) -> int:
        schema = self._schemas.get(form.schema_name, 0)
        if form.schema and not schema:
            schema = self._chunking.add_schema(form.schema_name, "jsonschema", form.schema)
            self._schemas[form.schema_name] = schema
        channel = self._chunking.add_channel(topic, form.encoding, schema)
        self._channels[topic] = channel
        return channel

    def _add(self, channel: int, message: RecordedMessage, payload: bytes) -> None:
        self._chunking.add_message(
            channel, self.messages & 0xFFFF_FFFF, message.received_ns, message.sent_ns, payload
        )

    def _save(self) -> None:
        self._file.save()


def _kind(topic: str) -> Kind | None:
    try:
        return parse_topic(topic).kind
    except MalformedError:
        return None


class _WholeWrites:
    """A file in which a write is there whole or not at all: held back until `save`."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
        try:
            self._descriptor = _open(path, flags)
        except FileExistsError:
            raise RecordingError(
                f"{path} is there already; choose another name, or --force to replace it"
            ) from None
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error.strerror}") from error
        self._held = BytesIO()
        self.size_bytes = 0
        self.is_closed = False

    @property
    def is_dirty(self) -> bool:
        return self._held.tell() > 0

    def write(self, content: bytes) -> int:
        return self._held.write(content)

    def tell(self) -> int:
        return self.size_bytes + self._held.tell()

    def save(self) -> None:
        if self.is_closed:
            raise RecordingError(f"{self._path} is closed; nothing more can be recorded into it")
        content = memoryview(self._held.getvalue())
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError as error:
            self._give_up()
            raise RecordingError(
                f"recording stopped, {self._path} cannot be written: {error.strerror}; what is "
                f"in it is whole, and `driftwell recording recover` gives it an index"
            ) from error
        self.size_bytes += len(content)
        self._held = BytesIO()

    def _give_up(self) -> None:
        # Half a record would be no harm, but the promise is whole ones.
        with suppress(OSError):
            os.ftruncate(self._descriptor, self.size_bytes)
        self.close()

    def sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise RecordingError(f"{self._path} is not safe on the disk: {error}") from error

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            os.close(self._descriptor)


def _open(path: Path, flags: int) -> int:
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
    descriptor = os.open(path, flags, 0o644)
    _sync_folder(path.parent)
    return descriptor


def _sync_folder(folder: Path) -> None:
    # A file whose name is not on the disk is lost in a power cut with all its chunks.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
