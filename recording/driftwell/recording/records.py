"""The records of an MCAP file, read as bytes of which nothing is believed.

Lengths are compared with what is left of the file before anything is read, and with each
other: every type of record says its own length twice, so that one changed byte is seen.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mcap.opcode import Opcode

from driftwell.messages.errors import RecordingError
from driftwell.recording.chunks import HEAD
from driftwell.recording.form import MAX_RECORD

MAGIC: Final = b"\x89MCAP0\r\n"
_SHORT, _LONG = -4, -8
"""A field with its length before it, in 4 or 8 bytes; other fields have a fixed length."""
_SHAPES: Final[dict[int, tuple[int, ...]]] = {
    Opcode.HEADER: (_SHORT, _SHORT),
    Opcode.FOOTER: (20,),
    Opcode.SCHEMA: (2, _SHORT, _SHORT, _SHORT),
    Opcode.CHANNEL: (4, _SHORT, _SHORT, _SHORT),
    Opcode.CHUNK: (28, _SHORT, _LONG),
    Opcode.MESSAGE_INDEX: (2, _SHORT),
    Opcode.CHUNK_INDEX: (32, _SHORT, 8, _SHORT, 16),
    Opcode.ATTACHMENT: (16, _SHORT, _SHORT, _LONG, 4),
    Opcode.ATTACHMENT_INDEX: (40, _SHORT, _SHORT),
    Opcode.STATISTICS: (42, _SHORT),
    Opcode.METADATA: (_SHORT, _SHORT),
    Opcode.METADATA_INDEX: (16, _SHORT),
    Opcode.SUMMARY_OFFSET: (17,),
    Opcode.DATA_END: (4,),
}
_CANDIDATE: Final = re.compile(rb"(?=[\x01-\x0f].{4}\0{4})", re.DOTALL)
_WINDOW: Final = 1_000_000
_FOOTER: Final = struct.Struct("<QQI")
FOOTER_BYTES: Final = HEAD.size + _FOOTER.size


@dataclass(frozen=True, slots=True)
class Record:
    """Where a record stands in the file."""

    opcode: int
    offset: int
    length: int
    """Bytes of its content, which follows nine bytes after `offset`."""

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + HEAD.size + self.length


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of the file that are no record."""

    offset: int
    length: int
    why: str


class RecordFile:
    """A file open for reading at any place, exact or not at all."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            RecordingError: if it cannot be opened, or is no MCAP file.
        """
        self.path = path
        try:
            self._file = path.open("rb")
            self.size = self._file.seek(0, 2)
        except OSError as error:
            raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
        if self.size < len(MAGIC) or self.read(0, len(MAGIC)) != MAGIC:
            self.close()
            raise RecordingError(f"{path} is not an MCAP file")

    def read(self, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes.

        Raises:
            RecordingError: if there are not so many, or the disk does not give them.
        """
        if offset + length > self.size:
            raise RecordingError(f"{self.path} ends at byte {self.size}, within a record")
        try:
            self._file.seek(offset)
            content = self._file.read(length)
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be read: {error.strerror}") from error
        if len(content) != length:
            raise RecordingError(f"{self.path} became shorter while it was read")
        return content

    def content(self, record: Record) -> bytes:
        """The content of a record."""
        return self.read(record.offset + HEAD.size, record.length)

    def record_at(self, offset: int) -> Record | None:
        """The record that begins there; None if there is none, or not all of it."""
        if offset + HEAD.size > self.size:
            return None
        opcode, length = HEAD.unpack(self.read(offset, HEAD.size))
        record = Record(opcode, offset, length)
        if opcode not in _SHAPES or length > MAX_RECORD or record.end > self.size:
            return None
        return record if self._has_shape(record) else None

    def _has_shape(self, record: Record) -> bool:
        place = record.offset + HEAD.size
        for field in _SHAPES[record.opcode]:
            if field > 0:
                place += field
                continue
            if place - field > record.end:
                return False
            place += int.from_bytes(self.read(place, -field), "little") - field
        return place == record.end

    def find_record(self, offset: int) -> int | None:
        """Where the first record at `offset` or later begins."""
        while offset + HEAD.size <= self.size:
            window = self.read(offset, min(_WINDOW, self.size - offset))
            for match in _CANDIDATE.finditer(window):
                if self.record_at(offset + match.start()) is not None:
                    return offset + match.start()
            offset += max(1, len(window) - HEAD.size + 1)
        return None

    def walk(self) -> Iterator[Record | Gap]:
        """Yield all records in the file's order, and what lies between them."""
        offset = len(MAGIC)
        while offset < self.size:
            record = self.record_at(offset)
            if record is None:
                found = self.find_record(offset + 1)
                yield self._gap(offset, found)
                if found is None:
                    return
                offset = found
                continue
            yield record
            offset = record.end
            if record.opcode == Opcode.FOOTER and self.read_tail(offset) == MAGIC:
                return

    def read_tail(self, offset: int) -> bytes:
        """What follows `offset`, if it is no longer than the magic at the end."""
        return self.read(offset, self.size - offset) if self.size - offset <= len(MAGIC) else b""

    def has_whole_index(self) -> bool:
        """Whether the file was closed, and its index is what was written then."""
        place = self.size - len(MAGIC) - FOOTER_BYTES
        footer = self.record_at(place) if place >= len(MAGIC) else None
        if footer is None or footer.opcode != Opcode.FOOTER or self.read_tail(footer.end) != MAGIC:
            return False
        start, _, crc = _FOOTER.unpack(self.content(footer))
        if not len(MAGIC) <= start <= place:
            return False
        # The sum covers the index and the footer up to the sum itself.
        covered = self.size - len(MAGIC) - 4 - start
        return bool(zlib.crc32(self.read(start, covered)) == crc)

    def close(self) -> None:
        """Close the file."""
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

    def _gap(self, offset: int, found: int | None) -> Gap:
        if found is not None:
            return Gap(offset, found - offset, "these bytes are no record")
        return Gap(offset, self.size - offset, "the file ends within a record")
