"""Pure. What is inside a chunk: messages, and the channels defined in it.

A chunk claims its size in two places; both are checked before any memory is taken for it.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final, NamedTuple

import zstandard
from mcap.opcode import Opcode

from driftwell.messages.errors import RecordingError
from driftwell.recording.form import MAX_RECORD

HEAD: Final = struct.Struct("<BQ")
"""What every record begins with: its opcode and the length of its content."""
_CHUNK: Final = struct.Struct("<QQQII")
_MESSAGE: Final = struct.Struct("<HIQQ")


class StoredMessage(NamedTuple):
    """One message record of a chunk."""

    channel: int
    offset: int
    """Of its record in the unpacked chunk."""
    received_ns: int
    sent_ns: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class ChunkContent:
    """What a chunk holds."""

    topics: dict[int, str]
    """Of the channels defined in it, by number."""
    messages: list[StoredMessage]


def unpack_chunk(content: bytes) -> bytes:
    """Unpack the content of a chunk record, after checking every size it claims.

    Raises:
        RecordingError: with the reason only; the caller knows the file.
    """
    if len(content) < _CHUNK.size + 8:
        raise RecordingError("a chunk is too short")
    _, _, size, crc, name_length = _CHUNK.unpack_from(content)
    compression = content[_CHUNK.size : _CHUNK.size + name_length]
    packed = memoryview(content)[_CHUNK.size + name_length + 8 :]
    if size > MAX_RECORD:
        raise RecordingError(f"a chunk claims {size} bytes, over the limit of {MAX_RECORD}")
    unpacked = _unpack(compression, packed, size)
    if len(unpacked) != size:
        raise RecordingError(f"a chunk claims {size} bytes and has {len(unpacked)}")
    if crc and zlib.crc32(unpacked) != crc:
        raise RecordingError("the checksum of a chunk does not fit")
    return unpacked


def _unpack(compression: bytes, packed: memoryview, size: int) -> bytes:
    if compression == b"":
        return bytes(packed)
    if compression != b"zstd":
        raise RecordingError(f"a chunk is packed with {compression[:20]!r}, which is not known")
    try:
        # The frame has its own claim, and memory is taken for that one.
        if zstandard.frame_content_size(packed) != size:
            raise RecordingError("a chunk's two claims of its size differ")
        return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as error:
        raise RecordingError(f"a chunk does not unpack: {error}") from error


def read_chunk(unpacked: bytes) -> ChunkContent:
    """Read the records in an unpacked chunk.

    Raises:
        RecordingError: if a record reaches over the end, with the reason only.
    """
    topics: dict[int, str] = {}
    messages: list[StoredMessage] = []
    end, place = len(unpacked), 0
    while place < end:
        if place + HEAD.size > end:
            raise RecordingError("a chunk ends within a record")
        opcode, length = HEAD.unpack_from(unpacked, place)
        start = place + HEAD.size
        stop = start + length
        if stop > end or (opcode == Opcode.MESSAGE and length < _MESSAGE.size):
            raise RecordingError("a record in a chunk has a wrong length")
        if opcode == Opcode.MESSAGE:
            channel, _, received, sent = _MESSAGE.unpack_from(unpacked, start)
            payload = unpacked[start + _MESSAGE.size : stop]
            messages.append(StoredMessage(channel, place, received, sent, payload))
        elif opcode == Opcode.CHANNEL:
            number, topic = read_channel(unpacked[start:stop])
            topics[number] = topic
        place = stop
    return ChunkContent(topics, messages)


def read_channel(content: bytes) -> tuple[int, str]:
    """Number and topic from the content of a channel record.

    Raises:
        RecordingError: if it is too short, or the topic is no text; with the reason only.
    """
    length = int.from_bytes(content[4:8], "little")
    topic = content[8 : 8 + length]
    try:
        if len(content) >= 8 and len(topic) == length:  # noqa: PLR2004 - two numbers, a length
            return int.from_bytes(content[:2], "little"), topic.decode()
    except UnicodeDecodeError:
        pass
    raise RecordingError("a channel cannot be read")
