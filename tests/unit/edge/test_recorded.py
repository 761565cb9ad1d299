"""A raw stream recorded at a device, and answered again from the recording."""

import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs
from tests import tiny
from tests.daemons import CLOCKS
from tests.unit.recording.recorded import write_recording
from tests.unit.recording.streams import stream

from driftwell.edge.filter import FilterSettings
from driftwell.edge.node import EdgeNode
from driftwell.edge.predictions import Predictions
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sinks import Discard
from driftwell.edge.sources import ArraySource, SourceBatch, open_source
from driftwell.edge.stream_recorder import StreamRecorder
from driftwell.messages.codec import decode
from driftwell.messages.errors import RecordingError, SourceError
from driftwell.messages.stream import StreamBatch, unpack_stream_columns
from driftwell.models.bundle import Bundle
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage
from driftwell.recording.reader import Recording
from driftwell.recording.writer import RecordingWriter

IMAGES = 50
LABELS = np.arange(IMAGES) % len(tiny.CLASSES)


@pytest.fixture
def edge(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path)


async def record(
    edge: Bundle, path: Path, *, labelled: bool = True, device: str = "cam-1"
) -> list[SourceBatch]:
    """Answer 50 random images in batches of 16 and record them."""
    settings = EdgeSettings(
        bundle=edge.path, source="npz:x", device=device, broker="mqtts://me:secret@broker.lan"
    )
    recorder = StreamRecorder(
        Discard(), settings, path=path, model=edge.digest, session=tiny.SESSION,
        wall_ns=CLOCKS.wall_ns, monotonic_s=time.monotonic,
    )  # fmt: skip
    node = EdgeNode(edge, FilterSettings(), group="default", cohort=device)
    stream = ArraySource(tiny.make_images(IMAGES), LABELS if labelled else None, batch=16)
    given = [batch async for batch in stream.batches(None)]
    for batch in given:
        recorder.write(batch, node.infer(batch.images))
    recorder.close()
    return given


async def read(spec: str, batch: int, position: bytes | None = None) -> list[SourceBatch]:
    source = open_source(spec, shape=tiny.SHAPE, batch=batch)
    return [one async for one in source.batches(position)]


@pytest.mark.parametrize("batch", [1, 7, 16, 64])
async def test_the_stream_comes_back_in_batches_of_any_size(
    edge: Bundle, tmp_path: Path, batch: int
) -> None:
    """Images, labels and numbers are those that were answered, whatever the batches were."""
    path = tmp_path / "a.mcap"
    await record(edge, path)

    again = await read(f"mcap:{path}", batch)

    assert [len(one.images) for one in again[:-1]] == [batch] * (len(again) - 1)
    np.testing.assert_array_equal(
        np.concatenate([one.images for one in again]), tiny.make_images(IMAGES)
    )
    assert [int(i) for one in again for i in one.index] == list(range(IMAGES))
    joined = [one.labels for one in again if one.labels is not None]
    np.testing.assert_array_equal(np.concatenate(joined), LABELS)


async def test_a_kept_position_goes_on_exactly_there(edge: Bundle, tmp_path: Path) -> None:
    """A device that was stopped in the middle of a recording answers the rest of it."""
    path = tmp_path / "a.mcap"
    await record(edge, path)
    first, *rest = await read(f"mcap:{path}", 20)

    again = await read(f"mcap:{path}", 20, first.position)

    assert [one.position for one in again] == [one.position for one in rest]
    np.testing.assert_array_equal(again[0].images, tiny.make_images(IMAGES)[20:40])


async def test_what_the_device_answered_is_beside_the_images(edge: Bundle, tmp_path: Path) -> None:
    """Prediction, entropy, verdict and version are the node's own, and labels may be missing."""
    path = tmp_path / "a.mcap"
    await record(edge, path, labelled=False)
    node = EdgeNode(edge, FilterSettings())

    with Recording(path) as recording:
        for message in recording.messages():
            batch = decode(message.payload, limit_bytes=MAX_MESSAGE)
            assert isinstance(batch, StreamBatch)
            columns = unpack_stream_columns(batch)
            start = int(columns["index"][0])
            predictions = node.infer(tiny.make_images(IMAGES)[start : start + batch.count])
            np.testing.assert_array_equal(columns["prediction"], predictions.label)
            np.testing.assert_array_equal(columns["entropy"], predictions.entropy)
            np.testing.assert_array_equal(columns["verdict"], predictions.verdicts)
            assert "label" not in columns
    assert [one.labels for one in await read(f"mcap:{path}", 16)] == [None] * 4


async def test_labels_stay_with_their_images(tmp_path: Path) -> None:
    """A batch has labels if each of its images has one; those of later images never move up."""
    images = tiny.make_images(12)
    parts = [stream(1, images[:4]), stream(2, images[4:8], [0, 1, 2, 3]),
             stream(3, images[8:], [3, 2, 1, 0])]  # fmt: skip
    path = write_recording(tmp_path / "a.mcap", parts)

    read_again = [
        None if one.labels is None else one.labels.tolist() for one in await read(f"mcap:{path}", 3)
    ]
    after = await read(f"mcap:{path}", 3, b"5")

    assert read_again == [None, None, [2, 3, 3], [2, 1, 0]]
    assert [one.labels.tolist() for one in after if one.labels is not None] == [
        [1, 2, 3], [3, 2, 1], [0],
    ]  # fmt: skip


async def test_a_batch_that_stands_twice_is_answered_once(tmp_path: Path) -> None:
    """A recording joined with a copy of its own is no longer stream."""
    images = tiny.make_images(4)
    parts = [stream(1, images[:2]), stream(1, images[:2]), stream(2, images[2:])]
    path = write_recording(tmp_path / "a.mcap", parts)

    [one] = await read(f"mcap:{path}", 16)

    np.testing.assert_array_equal(one.images, images)


async def test_devices_of_one_name_are_told_apart_by_their_group(tmp_path: Path) -> None:
    """Their streams are never mixed into one."""
    images = tiny.make_images(4)
    parts = [stream(1, images[:2], group="home"), stream(1, images[2:], group="shed")]
    path = write_recording(tmp_path / "a.mcap", parts)

    for place in (path, f"{path}#cam-1"):
        with pytest.raises(SourceError, match="home/cam-1, shed/cam-1: choose one"):
            await read(f"mcap:{place}", 16)
    [one] = await read(f"mcap:{path}#shed/cam-1", 16)

    np.testing.assert_array_equal(one.images, images[2:])


async def test_the_settings_are_kept_without_the_password(edge: Bundle, tmp_path: Path) -> None:
    """What decided is in the recording; what opens the broker is not."""
    path = tmp_path / "a.mcap"
    await record(edge, path)

    with Recording(path) as recording:
        documents = recording.documents()

    assert '"device":"cam-1"' in documents["settings:edge:default/cam-1"]
    assert b"secret" not in path.read_bytes()


async def test_a_restart_begins_a_recording_beside_the_first(edge: Bundle, tmp_path: Path) -> None:
    """No recording is ever written over by a device that starts again."""
    path = tmp_path / "a.mcap"
    await record(edge, path)
    before = path.read_bytes()

    await record(edge, path)

    assert path.read_bytes() == before
    assert len(await read(f"mcap:{tmp_path / 'a-0001.mcap'}", 16)) == 4


async def test_a_recording_of_several_devices_asks_which(edge: Bundle, tmp_path: Path) -> None:
    """With two streams in a file the source must be told which; a wrong name lists both."""
    path = tmp_path / "both.mcap"
    with RecordingWriter(path, software="test", clock_s=time.monotonic) as writer:
        for device in ("cam-1", "cam-2"):
            await record(edge, tmp_path / f"{device}.mcap", device=device)
            with Recording(tmp_path / f"{device}.mcap") as recording:
                for message in recording.messages():
                    writer.write(message)

    with pytest.raises(SourceError, match="cam-1, cam-2: choose one"):
        await read(f"mcap:{path}", 16)
    with pytest.raises(SourceError, match="no images of 'cam-3'"):
        await read(f"mcap:{path}#cam-3", 16)
    assert len(await read(f"mcap:{path}#cam-2", 16)) == 4


async def test_files_that_are_no_such_recording_are_refused(edge: Bundle, tmp_path: Path) -> None:
    """A missing file, something else, a recording without a stream, other images: each is said."""
    foreign = tiny.write_stream(tmp_path / "x.npz", 4)
    bare = tmp_path / "bare.mcap"
    with RecordingWriter(bare, software="test", clock_s=time.monotonic) as writer:
        writer.write(RecordedMessage("driftwell/v1/default/cam-1/event", b"x", 1, 1))
    await record(edge, tmp_path / "a.mcap")

    for place, said in (
        (tmp_path / "none.mcap", "cannot be read"),
        (foreign, "not an MCAP file"),
        (bare, "holds no stream"),
    ):
        with pytest.raises(SourceError, match=said):
            await read(f"mcap:{place}", 16)
    source = open_source(f"mcap:{tmp_path / 'a.mcap'}", shape=(9, 9, 1), batch=16)
    with pytest.raises(SourceError, match="the model takes"):
        [one async for one in source.batches(None)]


def test_a_recording_that_fails_is_told_once_and_stops_nobody(
    edge: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk gives up in the middle: one warning then, one at the end, and answers go on."""
    answered: list[int] = []

    class Counting(Discard):
        def write(self, batch: SourceBatch, predictions: Predictions) -> None:
            answered.append(len(batch.images))

    def give_up(*_: object) -> None:
        raise RecordingError("the disk is full")

    monkeypatch.setattr(RecordingWriter, "write", give_up)
    settings = EdgeSettings(bundle=edge.path, source="npz:x", device="cam-1")
    recorder = StreamRecorder(
        Counting(), settings, path=tmp_path / "a.mcap", model=edge.digest, session=tiny.SESSION,
        wall_ns=CLOCKS.wall_ns, monotonic_s=time.monotonic,
    )  # fmt: skip
    images = tiny.make_images(4)
    predictions = EdgeNode(edge, FilterSettings()).infer(images)
    with capture_logs() as logs:
        for number in range(200):
            recorder.write(SourceBatch(images, np.arange(4, dtype=np.uint64), b"4"), predictions)
            time.sleep(0.001 if number < 100 else 0)
        recorder.close()

    assert len(answered) == 200
    assert [one["event"] for one in logs] == ["stream.recording-ended", "stream.not-recorded"]


def test_a_sink_that_is_behind_the_recorder_is_fed_and_closed(edge: Bundle, tmp_path: Path) -> None:
    """Recording takes nothing away from the answers."""
    queue: deque[str] = deque()

    class Behind:
        def write(self, batch: object, predictions: object) -> None:
            queue.append("written")

        def close(self) -> None:
            queue.append("closed")

    recorder = StreamRecorder(
        Behind(), EdgeSettings(bundle=edge.path, source="npz:x", device="cam-1"),
        path=tmp_path / "a.mcap", model=edge.digest, session=tiny.SESSION,
        wall_ns=CLOCKS.wall_ns, monotonic_s=time.monotonic,
    )  # fmt: skip
    images = tiny.make_images(4)
    batch = SourceBatch(images, np.arange(4, dtype=np.uint64), b"4")

    recorder.write(batch, EdgeNode(edge, FilterSettings()).infer(images))
    recorder.close()

    assert list(queue) == ["written", "closed"]
