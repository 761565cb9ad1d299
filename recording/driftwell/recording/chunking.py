"""Pure. Puts messages into MCAP chunks, and the index behind them.

It writes what the MCAP library's writer would, several times faster for small messages, and
every schema and channel once more in front of its chunk (see `form.py`).
"""

import struct
import zlib
from collections.abc import Iterable
from typing import Final, Protocol

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from driftwell.recording.chunks import HEAD
from driftwell.recording.records import MAGIC

ZSTD: Final = b"zstd"
ZSTD_LEVEL: Final = 1
"""A third of the time of level 3, for a sixth more bytes of pixels: devices record too."""
_CHUNK: Final = struct.Struct("<QQQII4sQ")
_MESSAGE: Final = struct.Struct("<BQHIQQ")
_MESSAGE_FIELDS: Final = _MESSAGE.size - HEAD.size
_INDEX: Final = struct.Struct("<BQHI")
_FOOTER: Final = struct.Struct("<QQ")


class Target(Protocol):
    """What is written to."""

    def write(self, content: bytes) -> int:
        """Add bytes at the end."""

    def tell(self) -> int:
        """How many bytes there are."""


class Chunking:
    """One MCAP file in the making; it holds the present chunk in memory."""

    def __init__(self, file: Target, *, profile: str, library: str, chunk_bytes: int) -> None:
        """Begin a file; a chunk is ended when it is over `chunk_bytes`, unpacked."""
        self._file = file
        self._chunk_bytes = chunk_bytes
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self._chunk = bytearray()
        self._places: dict[int, list[int]] = {}
        """By channel: receive time and place in the chunk, in turn."""
        self._start_ns = self._end_ns = 0
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._index = bytearray()
        """Of the chunks, packed: a hundredth of what the objects would take."""
        self._chunk_count = 0
        self._span_ns: tuple[int, int] | None = None
        self._metadata: list[MetadataIndex] = []
        self._counts: dict[int, int] = {}
        file.write(MAGIC + _packed(Header(profile, library)))

    def add_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Define a schema and give its number."""
        schema = Schema(len(self._schemas) + 1, data, encoding, name)
        self._schemas.append(schema)
        self._define(schema)
        return schema.id

    def add_channel(self, topic: str, encoding: str, schema: int) -> int:
        """Define a channel and give its number; schema 0 is none."""
        channel = Channel(len(self._channels) + 1, topic, encoding, {}, schema)
        self._channels.append(channel)
        self._define(channel)
        return channel.id

    def add_message(
        self, channel: int, sequence: int, received_ns: int, sent_ns: int, payload: bytes
    ) -> None:
        """Put a message into the chunk.

        Raises:
            struct.error: if a number is too large for its field; the chunk is as it was.
        """
        head = _MESSAGE.pack(
            Opcode.MESSAGE, _MESSAGE_FIELDS + len(payload), channel, sequence, received_ns, sent_ns
        )
        if not self._places:
            self._start_ns = self._end_ns = received_ns
        elif received_ns < self._start_ns:
            self._start_ns = received_ns
        elif received_ns > self._end_ns:
            self._end_ns = received_ns
        places = self._places.get(channel)
        if places is None:
            places = self._places[channel] = []
        places += (received_ns, len(self._chunk))
        self._chunk += head
        self._chunk += payload
        if len(self._chunk) > self._chunk_bytes:
            self.end_chunk()

    def add_metadata(self, name: str, fields: dict[str, str]) -> None:
        """Write a metadata record."""
        content = _packed(Metadata(name=name, metadata=fields))
        self._metadata.append(MetadataIndex(self._file.tell(), len(content), name))
        self._file.write(content)

    @property
    def index_bytes(self) -> int:
        """Of the chunk index so far."""
        return len(self._index)

    def end_chunk(self) -> None:
        """Write the chunk, if there is a message in it."""
        if not self._places:
            return
        packed = self._compressor.compress(self._chunk)
        fields = _CHUNK.pack(
            self._start_ns, self._end_ns, len(self._chunk), zlib.crc32(self._chunk),
            len(ZSTD), ZSTD, len(packed),
        )  # fmt: skip
        offset = self._file.tell()
        self._file.write(HEAD.pack(Opcode.CHUNK, len(fields) + len(packed)) + fields)
        self._file.write(packed)
        self._index_chunk(offset, len(packed))
        self._chunk = bytearray()
        self._places = {}

    def finish(self) -> None:
        """Write the last chunk, the index and the end of the file."""
        self.end_chunk()
        self._file.write(_packed(DataEnd(0)))
        start = self._file.tell()
        summary, offsets = bytearray(), bytearray()
        groups = (
            _joined(self._schemas), _joined(self._channels), _packed(self._statistics()),
            bytes(self._index), _joined(self._metadata),
        )  # fmt: skip
        for content in groups:
            if content:
                opcode = content[0]
                offsets += _packed(SummaryOffset(opcode, start + len(summary), len(content)))
                summary += content
        offsets_start = start + len(summary)
        summary += offsets
        summary += HEAD.pack(Opcode.FOOTER, _FOOTER.size + 4)
        summary += _FOOTER.pack(start, offsets_start)
        self._file.write(bytes(summary) + struct.pack("<I", zlib.crc32(summary)) + MAGIC)

    def _define(self, record: Schema | Channel) -> None:
        content = _packed(record)
        self._chunk += content
        self._file.write(content)

    def _index_chunk(self, offset: int, packed: int) -> None:
        index_offset = self._file.tell()
        offsets: dict[int, int] = {}
        content = bytearray()
        for channel, places in self._places.items():
            offsets[channel] = index_offset + len(content)
            size = 8 * len(places)
            content += _INDEX.pack(Opcode.MESSAGE_INDEX, size + 6, channel, size)
            content += struct.pack(f"<{len(places)}Q", *places)
            self._counts[channel] = self._counts.get(channel, 0) + len(places) // 2
        self._file.write(bytes(content))
        first, last = self._span_ns or (self._start_ns, self._end_ns)
        self._span_ns = min(first, self._start_ns), max(last, self._end_ns)
        self._chunk_count += 1
        self._index += _packed(
            ChunkIndex(
                chunk_length=index_offset - offset,
                chunk_start_offset=offset,
                compression=ZSTD.decode(),
                compressed_size=packed,
                message_end_time=self._end_ns,
                message_index_length=len(content),
                message_index_offsets=offsets,
                message_start_time=self._start_ns,
                uncompressed_size=len(self._chunk),
            )
        )

    def _statistics(self) -> Statistics:
        first, last = self._span_ns or (0, 0)
        return Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=self._counts,
            chunk_count=self._chunk_count,
            message_count=sum(self._counts.values()),
            message_end_time=last,
            message_start_time=first,
            metadata_count=len(self._metadata),
            schema_count=len(self._schemas),
        )


def _joined(records: Iterable[McapRecord]) -> bytes:
    return b"".join(map(_packed, records))


def _packed(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    content: bytes = builder.end()
    return content
