"""What `verify` counts while it walks a recording: clocks, decoding, and the indexes."""

from dataclasses import dataclass
from io import BytesIO
from typing import Final

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import MessageIndex
from mcap.summary import Summary

from driftwell.messages.codec import TYPE_OF_KIND, decode
from driftwell.messages.errors import WireError
from driftwell.messages.topics import Kind
from driftwell.recording.chunks import StoredMessage
from driftwell.recording.form import MAX_MESSAGE, VIEW_PREFIX
from driftwell.recording.reader import DAMAGE, address_of
from driftwell.recording.records import Gap, Record, RecordFile
from driftwell.recording.survey import MAX_GAPS, Chunk

UNORDERED: Final = frozenset({Kind.SAMPLES, Kind.HEAD})
"""Kinds whose sender's clock says when something was made, not when it was sent."""

_Index = dict[int, list[tuple[int, int]]]
"""Of one chunk, by channel: when a message was received, and where it stands."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What the index says of a chunk, and what is true."""

    length: int
    start_ns: int
    end_ns: int


class Audit:
    """The counts of one walk."""

    def __init__(self, topics: dict[int, str]) -> None:
        """Begin; `topics` may still grow."""
        self._topics = topics
        self.chunks: dict[int, Extent] = {}
        """By the byte at which they begin."""
        self.messages = 0
        self.views = 0
        self.faults = 0
        self.received_jumps = 0
        self.sent_jumps = 0
        self.undecodable = 0
        self._received_ns = 0
        self._sent_ns: dict[int, int] = {}
        self._unindexed: _Index = {}
        self._is_after_damage = False
        """Whether what is damaged may have been the chunk whose index comes now."""
        self._losses: list[Gap] = []

    def take(self, part: Chunk | Record | Gap, file: RecordFile) -> None:
        """Count a chunk with its messages, or look at another record or at a damaged place."""
        if isinstance(part, Chunk):
            self.end_chunk()
            self._is_after_damage = False
            self._take_chunk(part)
        elif isinstance(part, Gap):
            self._is_after_damage = True
            if len(self._losses) < MAX_GAPS:
                self._losses.append(part)
        elif part.opcode == Opcode.MESSAGE_INDEX:
            self._take_index(file.content(part))

    def end_chunk(self) -> None:
        """No more index of the last chunk comes."""
        self.faults += len(self._unindexed)
        self._unindexed = {}

    def compare(self, summary: Summary) -> None:
        """Count where the index at the end of the file says other than the chunks."""
        told = {
            one.chunk_start_offset: Extent(
                one.chunk_length, one.message_start_time, one.message_end_time
            )
            for one in summary.chunk_indexes
        }
        differences = set(told.items()) ^ set(self.chunks.items())
        self.faults += sum(not self._is_lost(offset) for offset, _ in differences)
        statistics = summary.statistics
        if self._losses:
            return  # what is lost is told elsewhere, and cannot be counted here
        if statistics is None or statistics.message_count != self.messages + self.views:
            self.faults += 1

    def _is_lost(self, offset: int) -> bool:
        return any(gap.offset <= offset < gap.offset + gap.length for gap in self._losses)

    def _take_chunk(self, chunk: Chunk) -> None:
        times = [message.received_ns for message in chunk.messages]
        record = chunk.record
        self.chunks[record.offset] = Extent(
            record.end - record.offset, min(times, default=0), max(times, default=0)
        )
        for message in chunk.messages:
            place = (message.received_ns, message.offset)
            self._unindexed.setdefault(message.channel, []).append(place)
            self._take_message(message, self._topics[message.channel])

    def _take_message(self, message: StoredMessage, topic: str) -> None:
        if topic.startswith(VIEW_PREFIX):
            self.views += 1
            return
        self.messages += 1
        self.received_jumps += message.received_ns < self._received_ns
        self._received_ns = message.received_ns
        address = address_of(topic)
        kind = address.kind if address else None
        if kind not in UNORDERED and message.sent_ns:  # a will has no clock
            self.sent_jumps += message.sent_ns < self._sent_ns.get(message.channel, 0)
            self._sent_ns[message.channel] = message.sent_ns
        if kind is not None:
            self.undecodable += not _decodes(kind, message.payload)

    def _take_index(self, content: bytes) -> None:
        try:
            index = MessageIndex.read(ReadDataStream(BytesIO(content)))
        except DAMAGE:
            self.faults += 1
            return
        places = self._unindexed.pop(index.channel_id, None)
        if places is None and self._is_after_damage:
            return  # of a chunk that is lost
        if places != index.records:
            self.faults += 1


def _decodes(kind: Kind, payload: bytes) -> bool:
    wanted = TYPE_OF_KIND.get(kind)
    if wanted is None:
        return True
    try:
        return isinstance(decode(payload, limit_bytes=MAX_MESSAGE), wanted)
    except WireError:
        return False
