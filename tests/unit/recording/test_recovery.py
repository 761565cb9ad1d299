"""What is left of a recording that is damaged, and that nothing else is lost."""

import struct
import tracemalloc
from pathlib import Path

import msgspec
import pytest
import zstandard
from mcap.opcode import Opcode
from mcap.writer import Writer
from tests.unit.recording.recorded import (
    SETTINGS,
    broken,
    chunks_of,
    conversation,
    flipped,
    message,
    payload_of,
    read_all,
    records_in,
    save,
    write_recording,
)

from driftwell.messages.codec import decode, decode_on_topic
from driftwell.messages.errors import MalformedError, RecordingError, WireError
from driftwell.messages.topics import Kind
from driftwell.recording.chunks import unpack_chunk
from driftwell.recording.form import PROFILE, RecordedMessage
from driftwell.recording.reader import Recording
from driftwell.recording.recovery import verify

MESSAGES = conversation(120)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "a.mcap", MESSAGES)


def _without(chunks: list[tuple[int, int, int]], *lost: int) -> list[int]:
    """The numbers of the messages that are in other chunks."""
    kept: list[int] = []
    first = 0
    for place, (_, _, count) in enumerate(chunks):
        if place not in lost:
            kept.extend(range(first, first + count))
        first += count
    return kept


def test_whole_recording(path: Path) -> None:
    """Of a recording that was closed in good order nothing is said to be wrong."""
    verdict = verify(path)

    assert verdict.is_whole
    assert verdict.messages == len(MESSAGES)
    assert verdict.documents == 1
    assert verdict.chunks == len(chunks_of(path)) > 5
    assert verdict.views > 50
    assert verdict.undecodable == sum(_is_damaged(one) for one in MESSAGES) > 0


def _is_damaged(one: RecordedMessage) -> bool:
    try:
        decode_on_topic(one.topic, one.payload)
    except MalformedError:
        return one.topic.startswith("driftwell/")
    except WireError:  # a golden message on the topic of another device does decode
        return False
    return False


def test_recovered_whole_recording_is_the_same(path: Path, tmp_path: Path) -> None:
    """Recovering what is whole loses nothing: messages, documents, views."""
    salvage = save(path, tmp_path / "b.mcap")

    assert salvage.messages == len(MESSAGES)
    assert read_all(tmp_path / "b.mcap") == MESSAGES
    assert verify(tmp_path / "b.mcap").views == verify(path).views
    with Recording(tmp_path / "b.mcap") as recording:
        assert recording.documents() == {"settings": SETTINGS}


@pytest.mark.parametrize("place", range(8))
def test_only_the_damaged_chunk_is_lost(path: Path, tmp_path: Path, place: int) -> None:
    """A flipped bit costs its own chunk: those after it keep their messages and topics."""
    chunks = chunks_of(path)
    start, end, _ = chunks[place]
    other = broken(path, flipped(path.read_bytes(), (start + end) // 2))

    verdict = verify(other)
    salvage = save(other, tmp_path / "b.mcap")

    assert not verdict.is_whole
    assert (verdict.losses.chunks, verdict.losses.bytes) == (1, end - start)
    assert (verdict.is_closed, verdict.index_faults) == (True, 0)
    assert salvage.losses.unnamed == 0
    assert read_all(tmp_path / "b.mcap") == [MESSAGES[n] for n in _without(chunks, place)]


@pytest.mark.parametrize("place", [0, 3])
def test_first_chunk_damaged_and_no_index(path: Path, tmp_path: Path, place: int) -> None:
    """Without index and with a damaged chunk all others keep their topics."""
    chunks = chunks_of(path)
    start, end, _ = chunks[place]
    content = flipped(path.read_bytes(), (start + end) // 2)[: chunks[-1][1]]

    salvage = save(broken(path, content), tmp_path / "b.mcap")

    assert salvage.losses.unnamed == 0
    assert read_all(tmp_path / "b.mcap") == [MESSAGES[n] for n in _without(chunks, place)]


@pytest.mark.parametrize("byte", range(1, 9))
def test_wrong_length_of_a_record(path: Path, tmp_path: Path, byte: int) -> None:
    """A record with a wrong length costs itself; the next one is found again."""
    content, chunks = path.read_bytes(), chunks_of(path)
    for place in range(len(chunks)):
        for bit in (0, 3, 4):
            other = broken(path, flipped(content, chunks[place][0] + byte, bit))
            assert verify(other).index_faults == 0

            save(other, tmp_path / "b.mcap")

            saved = read_all(tmp_path / "b.mcap")
            assert saved == [MESSAGES[n] for n in _without(chunks, place)], (place, bit)


def test_bytes_betweenrecords_in(path: Path, tmp_path: Path) -> None:
    """Foreign bytes and a hole of zeros in the middle cost no chunk beside them."""
    content, chunks = path.read_bytes(), chunks_of(path)
    at = chunks[4][0]
    other = broken(path, content[:at] + bytes(5000) + b"\x06" * 3000 + content[at:])

    verdict = verify(other)
    save(other, tmp_path / "b.mcap")

    assert verdict.losses.bytes == 8000
    assert not verdict.is_closed
    assert read_all(tmp_path / "b.mcap") == MESSAGES


def test_forged_length_takes_no_memory(path: Path) -> None:
    """A record that claims to be huge is damage, whatever the file claims."""
    content, chunks = bytearray(path.read_bytes()), chunks_of(path)
    content[chunks[1][0] + 1 : chunks[1][0] + 9] = struct.pack("<Q", 2**60)
    other = broken(path, bytes(content))
    tracemalloc.start()

    verdict = verify(other)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verdict.losses.bytes > 0
    assert peak < 20_000_000


@pytest.mark.parametrize("claim", [2**40, 10_000_000])
def test_forged_chunk_takes_no_memory(claim: int) -> None:
    """A chunk that claims another size than its frame, or a huge one, is not unpacked."""
    packed = zstandard.compress(bytes(1000))
    head = struct.pack("<QQQII4sQ", 0, 0, claim, 0, 4, b"zstd", len(packed))

    with pytest.raises(RecordingError, match="claim"):
        unpack_chunk(head + packed)


def test_forged_frame_takes_no_memory() -> None:
    """A packed frame that claims more than its chunk does is not unpacked either."""
    frame = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**38) + bytes(20)
    head = struct.pack("<QQQII4sQ", 0, 0, 1000, 0, 4, b"zstd", len(frame))

    with pytest.raises(RecordingError, match="two claims"):
        unpack_chunk(head + frame)


@pytest.mark.parametrize("compression", [b"lz4", b"????"])
def test_unknown_compression_is_damage(compression: bytes) -> None:
    """A chunk that is packed in another way is refused by name."""
    length = len(compression)
    head = struct.pack(f"<QQQII{length}sQ", 0, 0, 3, 0, length, compression, 3)

    with pytest.raises(RecordingError, match="not known"):
        unpack_chunk(head + b"abc")


def test_altered_document_is_not_saved(path: Path, tmp_path: Path) -> None:
    """Half a truth about the settings of a run is worse than none."""
    content = path.read_bytes()
    other = broken(path, flipped(content, content.index(SETTINGS.encode())))

    salvage = save(other, tmp_path / "b.mcap")

    assert (salvage.documents, salvage.messages) == (0, len(MESSAGES))
    assert "checksum" in salvage.losses.gaps[0].why


def test_clocks_that_go_back_are_counted(tmp_path: Path) -> None:
    """Jumps of the recorder's clock and of each sender's are told apart; nothing is reordered."""
    telemetry = decode(payload_of(Kind.TELEMETRY))
    clocks = [100, 200, 150, 300, 0, 310, 10]
    messages = [
        message(
            Kind.TELEMETRY, number, device=telemetry.device,
            payload=msgspec.msgpack.encode(msgspec.structs.replace(telemetry, clock_ns=clock)),
        )
        for number, clock in zip([1, 2, 3, 2, 4, 5, 6], clocks, strict=True)
    ]  # fmt: skip

    verdict = verify(write_recording(tmp_path / "a.mcap", messages))

    assert (verdict.received_jumps, verdict.sent_jumps) == (1, 2)
    assert verdict.is_whole


def test_undecodable_messages_are_counted_and_kept(tmp_path: Path) -> None:
    """A message that does not decode is no damage of the recording."""
    messages = [
        message(Kind.ACK),
        message(Kind.STATE, payload=payload_of(Kind.ACK)),
        message(Kind.EVENT, payload=b"\xc1"),
        message(Kind.PREDICTIONS, payload=b"{}"),
    ]
    path = write_recording(tmp_path / "a.mcap", messages)

    verdict = verify(path)

    assert (verdict.undecodable, verdict.views, verdict.is_whole) == (2, 1, True)
    assert read_all(path) == messages


def test_recovering_onto_itself_is_refused(path: Path) -> None:
    """The only copy of a damaged recording is not written over, not even with --force."""
    with pytest.raises(RecordingError, match="itself"):
        save(path, path)
    assert read_all(path) == MESSAGES


def _plain_recording(path: Path, messages: list[RecordedMessage]) -> Path:
    """A recording by the MCAP library alone, not closed: names stand in chunks only."""
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=1000)
        writer.start(PROFILE)
        channels: dict[str, int] = {}
        for one in messages:
            if one.topic not in channels:
                channels[one.topic] = writer.register_channel(one.topic, "msgpack", 0)
            channel = channels[one.topic]
            writer.add_message(channel, one.received_ns, one.payload, one.sent_ns)
        writer.flush()
    return path


def test_names_from_chunks_only(tmp_path: Path) -> None:
    """A recording by another program, with names in its chunks only, is recovered too."""
    path = _plain_recording(tmp_path / "a.mcap", MESSAGES)

    save(path, tmp_path / "b.mcap")

    assert read_all(tmp_path / "b.mcap") == MESSAGES


def test_messages_without_a_name_are_counted(tmp_path: Path) -> None:
    """Where a damaged chunk took the only name of a topic along, that is said, not guessed."""
    messages = [message(Kind.UPDATE, n) for n in range(30)]
    path = _plain_recording(tmp_path / "a.mcap", messages)
    chunk = records_in(path, Opcode.CHUNK)[0]
    other = broken(path, flipped(path.read_bytes(), chunk.end - 10))

    salvage = save(other, tmp_path / "b.mcap")

    assert salvage.messages == 0
    assert salvage.losses.unnamed > 20
    assert not verify(other).is_whole


def test_recovered_without_views(tmp_path: Path) -> None:
    """What was recorded without views is recovered without views."""
    path = write_recording(tmp_path / "a.mcap", MESSAGES, views=False)

    save(path, tmp_path / "b.mcap")

    assert verify(tmp_path / "b.mcap").views == 0
