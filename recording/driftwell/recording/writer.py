"""Writes a recording: whole chunks only, so that a full disk or a power cut costs the last one.

The file holds complete chunks at every moment. What is not yet in one is in memory, at most
`chunk_bytes` and for at most `flush_s` seconds (if `tick` is called often enough).
"""

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mcap.writer import CompressionType, Writer

from driftwell.messages.errors import MalformedError, RecordingError
from driftwell.messages.topics import Kind, parse_topic
from driftwell.recording.form import (
    MAX_MESSAGE,
    PROFILE,
    TEXT,
    ChannelForm,
    RecordedMessage,
    message_form,
)

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
        overwrite: bool = False,
    ) -> None:
        """Begin a file.

        Args:
            path: The file.
            software: Name and version of the recording program.
            clock_s: Monotonic seconds.
            chunk_bytes: Uncompressed bytes of a chunk.
            flush_s: Seconds after which a chunk is ended however small it is.
            overwrite: Whether a file that is there may be replaced.

        Raises:
            RecordingError: if the file is there, or cannot be made.
        """
        self.path = path
        self.messages = 0
        self._flush_s = flush_s
        self._clock_s = clock_s
        self._flushed_s = clock_s()
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._file = _WholeWrites(path, overwrite=overwrite)
        self._mcap = Writer(self._file, chunk_bytes, CompressionType.ZSTD)  # type: ignore[arg-type]
        self._mcap.start(PROFILE, software)
        self._save()

    def write(self, message: RecordedMessage) -> None:
        """Add one message.

        Raises:
            RecordingError: if the disk does not take it. The file holds all chunks before.
        """
        if len(message.payload) > MAX_MESSAGE:
            raise RecordingError(f"a message of {len(message.payload)} bytes is not recorded")
        channel = self._channels.get(message.topic) or self._add_channel(
            message.topic, message_form(_kind(message.topic))
        )
        self._add(channel, message, message.payload)
        self.messages += 1
        if self._file.is_dirty:
            self._save()
        self.tick()

    def add_document(self, name: str, text: str) -> None:
        """Keep a text beside the messages, such as the settings of the run.

        Raises:
            RecordingError: if the disk does not take it.
        """
        self._mcap.add_metadata(name, {TEXT: text})
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
        self._mcap.flush()
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
                self._mcap.finish()
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

    def _add_channel(self, topic: str, form: ChannelForm) -> int:
        schema = 0
        if form.schema:
            schema = self._schemas.get(form.schema_name) or self._mcap.register_schema(
                form.schema_name, "jsonschema", form.schema
            )
            self._schemas[form.schema_name] = schema
        channel = self._mcap.register_channel(topic, form.encoding, schema)
        self._channels[topic] = channel
        return channel

    def _add(self, channel: int, message: RecordedMessage, payload: bytes) -> None:
        self._mcap.add_message(
            channel,
            log_time=message.received_ns,
            data=payload,
            publish_time=message.sent_ns,
            sequence=self.messages & 0xFFFF_FFFF,
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
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, flags, 0o644)
        except FileExistsError:
            raise RecordingError(
                f"{path} is there already; choose another name, or --force to replace it"
            ) from None
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error}") from error
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

    def flush(self) -> None:
        """The library asks for it; `save` is ours to call."""

    def save(self) -> None:
        content = memoryview(self._held.getvalue())
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError as error:
            os.ftruncate(self._descriptor, self.size_bytes)
            self.close()
            raise RecordingError(
                f"recording stopped, {self._path} cannot be written: {error.strerror}; what is "
                f"in it is whole, and `driftwell recording recover` gives it an index"
            ) from error
        self.size_bytes += len(content)
        self._held = BytesIO()

    def sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise RecordingError(f"{self._path} is not safe on the disk: {error}") from error

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            os.close(self._descriptor)
