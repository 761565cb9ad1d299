"""Reads a recording that was closed in good order, message by message, in the file's order.

A file that was not, or is damaged, is refused with the way out: `recovery.py` makes a
whole one of what is left.
"""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zstandard
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import ChunkIndex
from mcap.summary import Summary

from driftwell.messages.envelope import SCHEMA
from driftwell.messages.errors import MalformedError, RecordingError
from driftwell.messages.topics import Address, parse_topic
from driftwell.recording.chunks import StoredMessage, read_chunk, unpack_chunk
from driftwell.recording.form import (
    MAX_RECORD,
    PROFILE,
    PROFILE_PREFIX,
    VIEW_PREFIX,
    RecordedMessage,
    read_document,
)
from driftwell.recording.records import RecordFile

DAMAGE: Final = (
    McapError, ValueError, KeyError, EOFError, OverflowError, MemoryError, OSError,
    struct.error, zstandard.ZstdError,
)  # fmt: skip
"""Whatever the MCAP library lets through of a file that is not whole."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which messages of a recording are wanted; what is None does not matter."""

    kinds: Collection[str] | None = None
    devices: Collection[str] | None = None
    """`DEVICE` or `GROUP/DEVICE` each: two groups may have a device of one name."""
    start_ns: int | None = None
    """Received at this time or later."""
    end_ns: int | None = None
    """Received before this time."""

    def wants_topic(self, topic: str) -> bool:
        """Whether messages on the topic are wanted at all."""
        if topic.startswith(VIEW_PREFIX):
            return False
        if self.kinds is None and self.devices is None:
            return True
        address = address_of(topic)
        return (
            address is not None
            and (self.kinds is None or address.kind in self.kinds)
            and (self.devices is None or is_of(address, self.devices))
        )

    def wants_time(self, received_ns: int) -> bool:
        """Whether a message received then is wanted."""
        return (self.start_ns is None or received_ns >= self.start_ns) and (
            self.end_ns is None or received_ns < self.end_ns
        )


EVERYTHING: Final = Selection()


def is_of(address: Address, devices: Collection[str]) -> bool:
    """Whether an address is of one of the devices, each `DEVICE` or `GROUP/DEVICE`."""
    return address.device in devices or f"{address.group}/{address.device}" in devices


def address_of(topic: str) -> Address | None:
    """Whose topic it is and what it carries; None if it is not one of ours."""
    try:
        return parse_topic(topic)
    except MalformedError:
        return None


class Recording:
    """One recording, open for reading."""

    def __init__(self, path: Path) -> None:
        """Open it and read its index.

        Raises:
            RecordingError: if it is no recording, of another schema, not closed, or damaged.
        """
        self.path = path
        self._records = RecordFile(path)
        self._file: BufferedReader = path.open("rb")
        try:
            self._mcap, self._summary = self._open()
        except BaseException:
            self.close()
            raise

    @property
    def summary(self) -> Summary:
        """The file's index, as the MCAP library gives it."""
        return self._summary

    @property
    def topics(self) -> dict[str, int]:
        """How many messages there are on each topic, views left out."""
        statistics = self._summary.statistics
        counts = statistics.channel_message_counts if statistics else {}
        return {
            channel.topic: counts.get(number, 0)
            for number, channel in sorted(self._summary.channels.items())
            if not channel.topic.startswith(VIEW_PREFIX)
        }

    @property
    def devices(self) -> list[str]:
        """Every device that has a topic in it, by name."""
        addresses = [address_of(topic) for topic in self.topics]
        return sorted({a.device for a in addresses if a is not None and a.device != "_"})

    @property
    def span_ns(self) -> tuple[int, int]:
        """When the earliest and the latest message were received; (0, 0) if there are none."""
        statistics = self._summary.statistics
        if statistics is None or not statistics.message_count:
            return 0, 0
        return statistics.message_start_time, statistics.message_end_time

    def documents(self) -> dict[str, str]:
        """The texts kept beside the messages, by name.

        Raises:
            RecordingError: if the file is damaged there.
        """
        try:
            texts = {
                record.name: read_document(record.name, record.metadata)
                for record in self._mcap.iter_metadata()
            }
        except DAMAGE as error:
            raise self._damaged(error) from error
        return {name: text for name, text in texts.items() if text is not None}

    def messages(self, selection: Selection = EVERYTHING) -> Iterator[RecordedMessage]:
        """Yield what is wanted, in the file's order, chunk by chunk.

        Raises:
            RecordingError: if a chunk is damaged; all messages before it have been yielded.
        """
        wanted = {
            number: channel.topic
            for number, channel in self._summary.channels.items()
            if selection.wants_topic(channel.topic)
        }
        for index in sorted(self._summary.chunk_indexes, key=lambda one: one.chunk_start_offset):
            if not _may_hold(index, wanted.keys(), selection):
                continue
            for message in self._chunk(index):
                topic = wanted.get(message.channel)
                if topic is not None and selection.wants_time(message.received_ns):
                    yield RecordedMessage(
                        topic, message.payload, message.received_ns, message.sent_ns
                    )

    def close(self) -> None:
        """Close the file."""
        self._records.close()
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

    def _open(self) -> tuple[SeekingReader, Summary]:
        try:
            reader = SeekingReader(self._file, validate_crcs=True, record_size_limit=MAX_RECORD)
            profile = reader.get_header().profile
        except DAMAGE as error:
            raise RecordingError(f"{self.path} is not an MCAP file: {error}") from error
        require_profile(profile, self.path)
        if not self._records.has_whole_index():
            raise self._damaged("it has no whole index")
        try:
            summary = reader.get_summary()
        except DAMAGE as error:
            raise self._damaged(error) from error
        if summary is None:
            raise self._damaged("it has no index")
        return reader, summary

    def _chunk(self, index: ChunkIndex) -> list[StoredMessage]:
        record = self._records.record_at(index.chunk_start_offset)
        if record is None or record.opcode != Opcode.CHUNK:
            raise self._damaged(f"no chunk at byte {index.chunk_start_offset}")
        content = self._records.content(record)
        try:
            return read_chunk(unpack_chunk(content)).messages
        except RecordingError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception | str) -> RecordingError:
        return RecordingError(
            f"{self.path} was not closed or is damaged ({error or type(error).__name__}); save "
            f"what is whole with: driftwell recording recover {self.path} OUT.mcap"
        )


def require_profile(profile: str, path: Path) -> None:
    """Check that a file is a recording this program reads.

    Raises:
        RecordingError: if it is another program's, or of another schema major.
    """
    if profile == PROFILE:
        return
    if profile.startswith(PROFILE_PREFIX):
        raise RecordingError(
            f"{path} is a recording of schema {profile.removeprefix(PROFILE_PREFIX)}, this "
            f"program reads schema {SCHEMA}; read it with the release that wrote it"
        )
    raise RecordingError(f"{path} is an MCAP file (profile {profile!r}), but not a recording")


def _may_hold(index: ChunkIndex, channels: Collection[int], selection: Selection) -> bool:
    if selection.start_ns is not None and index.message_end_time < selection.start_ns:
        return False
    if selection.end_ns is not None and index.message_start_time >= selection.end_ns:
        return False
    return not index.message_index_offsets or any(
        number in index.message_index_offsets for number in channels
    )
