"""Walks a whole file, damaged or not: its chunks one by one, its documents, what is lost.

`verify` and `recover` look at a file through this.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Metadata

from driftwell.messages.errors import RecordingError
from driftwell.recording.chunks import StoredMessage, read_channel, read_chunk, unpack_chunk
from driftwell.recording.form import VIEW_PREFIX, read_document
from driftwell.recording.reader import DAMAGE, require_profile
from driftwell.recording.records import Gap, Record, RecordFile

MAX_GAPS: Final = 1000
"""Damaged places that are told one by one; the bytes of all are counted."""

Progress = Callable[[int, int], None]
"""Told now and then: bytes done, bytes in all."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One undamaged chunk."""

    record: Record
    messages: list[StoredMessage]


@dataclass(slots=True)
class Losses:
    """What of a file is damaged."""

    gaps: list[Gap] = field(default_factory=list)
    bytes: int = 0
    chunks: int = 0
    """Damaged ones that are still there; of one cut off nothing is known."""
    unnamed: int = 0
    """Messages of undamaged chunks whose topic is lost."""

    def add(self, gap: Gap) -> None:
        """Count a damaged place."""
        self.bytes += gap.length
        if len(self.gaps) < MAX_GAPS:
            self.gaps.append(gap)


class Survey:
    """One pass over one file, which need not be closed or whole."""

    def __init__(self, path: Path, *, progress: Progress | None = None) -> None:
        """Open a file and find the names of its channels.

        Raises:
            RecordingError: if it cannot be read, is no recording, or of another schema.
        """
        self.losses = Losses()
        self.documents: dict[str, str] = {}
        self._progress = progress
        self.file = RecordFile(path)
        try:
            require_profile(_profile(self.file), path)
            self.topics = self._names()
        except BaseException:
            self.file.close()
            raise

    @property
    def has_views(self) -> bool:
        """Whether views stand beside the messages."""
        return any(topic.startswith(VIEW_PREFIX) for topic in self.topics.values())

    def parts(self) -> Iterator[Chunk | Record | Gap]:
        """Yield the undamaged chunks, all other records and what is damaged, in order.

        Documents are collected, and damage is counted, on the way.
        """
        for part in self.file.walk():
            if self._progress is not None:
                self._progress(part.offset + part.length, self.file.size)
            if isinstance(part, Gap):
                self.losses.add(part)
                yield part
            elif part.opcode == Opcode.CHUNK:
                yield self._chunk(part)
            else:
                if part.opcode == Opcode.METADATA:
                    self._take_document(part)
                yield part

    def _names(self) -> dict[int, str]:
        # A chunk's own definitions have a checksum and win, but a damaged chunk has none.
        names: dict[int, str] = {}
        for part in self.file.walk():
            if isinstance(part, Record) and part.opcode == Opcode.CHANNEL:
                try:
                    number, topic = read_channel(self.file.content(part))
                except RecordingError:
                    continue
                names.setdefault(number, topic)
        return names

    def _chunk(self, record: Record) -> Chunk | Gap:
        try:
            content = read_chunk(unpack_chunk(self.file.content(record)))
        except RecordingError as error:
            gap = Gap(record.offset, record.end - record.offset, str(error))
            self.losses.add(gap)
            self.losses.chunks += 1
            return gap
        self.topics.update(content.topics)
        named = [one for one in content.messages if one.channel in self.topics]
        self.losses.unnamed += len(content.messages) - len(named)
        return Chunk(record, named)

    def _take_document(self, record: Record) -> None:
        try:
            metadata = Metadata.read(ReadDataStream(BytesIO(self.file.content(record))))
            text = read_document(metadata.name, metadata.metadata)
        except DAMAGE as error:
            self.losses.add(Gap(record.offset, record.end - record.offset, str(error)))
            return
        if text is not None:
            self.documents[metadata.name] = text


def _profile(file: RecordFile) -> str:
    record = next(iter(file.walk()), None)
    if not isinstance(record, Record) or record.opcode != Opcode.HEADER:
        raise RecordingError(
            f"{file.path} has no readable beginning: it is not a recording, or nothing of it is "
            f"left that could be recovered"
        )
    content = file.content(record)
    length = int.from_bytes(content[:4], "little")
    return content[4 : 4 + length].decode(errors="replace")
