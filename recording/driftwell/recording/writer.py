"""Writes a recording: whole chunks only, so that a full disk or a power cut costs the last one.

The file holds complete chunks at every moment. What is not yet in one is in memory, at most
`chunk_bytes` and for at most `flush_s` seconds (if `tick` is called often enough).
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from driftwell.messages.errors import MalformedError, RecordingError
from driftwell.messages.topics import Kind, parse_topic
from driftwell.recording.appending import WholeWrites
from driftwell.recording.chunking import Chunking
from driftwell.recording.form import (
    MAX_INDEX,
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
        self._file = WholeWrites(path, overwrite=overwrite)
        self._chunking = Chunking(
            self._file, profile=PROFILE, library=software, chunk_bytes=chunk_bytes
        )
        self._save()

    def write(self, message: RecordedMessage) -> bool:
        """Add one message; False if no recording can hold it (see `is_recordable`).

        Raises:
            RecordingError: if the disk does not take it, or the file is full. The file holds
                all chunks before.
        """
        if self.is_full:
            raise RecordingError(
                f"{self.path} is full, its index has {MAX_INDEX} bytes; go on in another file"
            )
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

    @property
    def is_full(self) -> bool:
        """Whether the index has no room for another chunk."""
        return self._chunking.index_bytes >= MAX_INDEX

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

    def abandon(self) -> None:
        """Close the file without an index: all of it can be recovered, and it looks unfinished.

        Raises:
            RecordingError: if the disk does not take what is still in memory.
        """
        try:
            if not self._file.is_closed:
                self.flush()
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
        if error is None:
            self.close()
            return
        with suppress(RecordingError):
            self.abandon()

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
