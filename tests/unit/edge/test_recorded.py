"""A raw stream recorded at a device, and answered again from the recording."""

import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from tests import tiny
from tests.daemons import CLOCKS

from driftwell.edge.filter import FilterSettings
from driftwell.edge.node import EdgeNode
from driftwell.edge.predictions import Discard
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sources import ArraySource, SourceBatch, open_source
from driftwell.edge.stream_recorder import StreamRecorder, free_path
from driftwell.messages.codec import decode
from driftwell.messages.errors import SourceError
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


async def test_the_settings_are_kept_without_the_password(edge: Bundle, tmp_path: Path) -> None:
    """What decided is in the recording; what opens the broker is not."""
    path = tmp_path / "a.mcap"
    await record(edge, path)

    with Recording(path) as recording:
        documents = recording.documents()

    assert '"device":"cam-1"' in documents["settings:edge:cam-1"]
    assert b"secret" not in path.read_bytes()


async def test_a_restart_begins_a_recording_beside_the_first(edge: Bundle, tmp_path: Path) -> None:
    """No recording is ever written over by a device that starts again."""
    path = tmp_path / "a.mcap"
    await record(edge, path)
    before = path.read_bytes()

    await record(edge, path)

    assert path.read_bytes() == before
    assert (tmp_path / "a-2.mcap").is_file()
    assert free_path(path) == tmp_path / "a-3.mcap"


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
    with pytest.raises(SourceError, match="no stream of 'cam-3'"):
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
