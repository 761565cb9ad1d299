import csv
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from tests import tiny
from tests.unit.recording.recorded import message, write_recording
from tests.unit.recording.streams import stream

from driftwell.edge.sources import read_stream
from driftwell.messages.codec import encode
from driftwell.messages.errors import RecordingError
from driftwell.messages.images import Pixels, pack_images
from driftwell.messages.stream import StreamBatch, pack_stream_columns
from driftwell.messages.topics import Kind
from driftwell.recording.export import Exported, export_images, export_npz
from driftwell.recording.form import RecordedMessage
from driftwell.recording.inventory import Share, take_inventory
from driftwell.recording.reader import Recording

MODEL = "0" * 64


def _stream(seq: int, images: Pixels, *, labelled: bool = True) -> RecordedMessage:
    count = len(images)
    index = np.arange(count, dtype=np.uint64) + np.uint64(10 * seq)
    batch = StreamBatch(
        device="cam-7", session=tiny.SESSION, seq=seq, clock_ns=1, model=MODEL, cohort="yard",
        version=seq, images=pack_images(images),
        columns=pack_stream_columns(
            index, np.full(count, 2, np.uint16), np.full(count, 0.25, np.float32),
            np.zeros(count, np.uint8), np.full(count, 3, np.uint16) if labelled else None,
        ),
    )  # fmt: skip
    return message(Kind.STREAM, seq, payload=encode(batch, limit_bytes=10**9))


def _samples(seq: int, images: Pixels, device: str = "cam-7") -> RecordedMessage:
    batch = tiny.make_batch(images, model=MODEL, device=device, seq=seq)
    return message(Kind.SAMPLES, seq, device=device, payload=encode(batch))


def _recorded(folder: Path, *messages: RecordedMessage) -> Recording:
    return Recording(write_recording(folder / "a.mcap", messages))


def test_stream_becomes_npz(tmp_path: Path) -> None:
    """A recorded stream comes back to the pixel, and the edge reads it as its source."""
    images = tiny.make_images(25)
    parts = [_stream(1, images[:10]), _stream(2, images[10:20]), _stream(3, images[20:])]
    with _recorded(tmp_path, *parts, parts[1], _samples(1, images[:3])) as recording:
        exported = export_npz(recording, tmp_path / "x.npz")

    assert exported == Exported("cam-7", "stream", 25, has_labels=True, left_out=0)
    pixels, labels = read_stream(tmp_path / "x.npz", shape=tiny.SHAPE, classes=4)
    assert np.array_equal(pixels, images)
    assert labels is not None
    assert labels.tolist() == [3] * 25
    with np.load(tmp_path / "x.npz", allow_pickle=False) as content:
        assert sorted(content) == ["entropy", "index", "prediction", "x", "y"]
        assert content["index"].tolist() == [*range(10, 20), *range(20, 30), *range(30, 35)]


def test_partly_labelled_stream_has_no_labels(tmp_path: Path) -> None:
    """Labels that do not belong to every image would be wrong for the rest."""
    images = tiny.make_images(4)
    with _recorded(tmp_path, _stream(1, images), _stream(2, images, labelled=False)) as recording:
        exported = export_npz(recording, tmp_path / "x.npz")

    assert (exported.images, exported.has_labels) == (8, False)


def test_samples_where_there_is_no_stream(tmp_path: Path) -> None:
    """Without a stream the selected images are taken, each once, however often it was sent."""
    images = tiny.make_images(6)
    parts = [_samples(1, images[:4]), _samples(1, images[:4]), _samples(2, images[4:])]
    damaged = message(Kind.SAMPLES, 9, payload=b"\xc1")
    with _recorded(tmp_path, *parts, damaged) as recording:
        exported = export_npz(recording, tmp_path / "x.npz")

    assert exported == Exported("cam-7", "samples", 6, has_labels=False, left_out=1)
    assert np.array_equal(read_stream(tmp_path / "x.npz", shape=tiny.SHAPE)[0], images)


def test_images_and_table(tmp_path: Path) -> None:
    """Every image becomes a PNG without loss, and a row that says what was answered."""
    images = tiny.make_images(3)
    with _recorded(tmp_path, _stream(1, images)) as recording:
        export_images(recording, tmp_path / "out")
        with pytest.raises(RecordingError, match="not empty"):
            export_images(recording, tmp_path / "out")

    with (tmp_path / "out" / "samples.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["10", "11", "12"]
    assert rows[0] == {
        "file": "cam-7-00000000.png", "index": "10", "prediction": "2", "entropy": "0.25",
        "label": "3",
    }  # fmt: skip
    for row, image in zip(rows, images, strict=True):
        with Image.open(tmp_path / "out" / row["file"]) as picture:
            assert np.array_equal(np.asarray(picture), image[..., 0])


def test_device_must_be_chosen(tmp_path: Path) -> None:
    """Where several devices have images, none is taken by chance."""
    images = tiny.make_images(2)
    with _recorded(tmp_path, _samples(1, images), _samples(1, images, "cam-5")) as recording:
        with pytest.raises(RecordingError, match="cam-5, cam-7"):
            export_npz(recording, tmp_path / "x.npz")
        with pytest.raises(RecordingError, match="'cam-9'"):
            export_npz(recording, tmp_path / "x.npz", device="cam-9")

        assert export_npz(recording, tmp_path / "x.npz", device="cam-5").images == 2


def test_device_of_a_group_is_chosen(tmp_path: Path) -> None:
    """Streams of two groups that have a device of one name are not mixed into one file."""
    images = tiny.make_images(3)
    parts = [stream(1, images[:2], group="home"), stream(1, images[2:], group="shed")]
    with _recorded(tmp_path, *parts) as recording:
        with pytest.raises(RecordingError, match="home/cam-1, shed/cam-1: choose one, --device"):
            export_npz(recording, tmp_path / "x.npz", device="cam-1")

        assert export_npz(recording, tmp_path / "x.npz", device="shed/cam-1").images == 1


def test_messages_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    """A device's stream without another's batch that came on its topic, or a damaged one."""
    images = tiny.make_images(3)
    other = replace(stream(2, images, device="cam-2"), topic=stream(1, images).topic)
    damaged = replace(other, payload=b"x")
    with _recorded(tmp_path, stream(1, images), other, damaged) as recording:
        exported = export_npz(recording, tmp_path / "x.npz")

    assert exported == Exported("cam-1", "stream", 3, has_labels=False, left_out=2)


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    """One array has one size of image."""
    small = np.zeros((1, 4, 4, 1), dtype=np.uint8)
    with (
        _recorded(tmp_path, _stream(1, small), _stream(2, tiny.make_images(1))) as recording,
        pytest.raises(RecordingError, match="2 sizes"),
    ):
        export_npz(recording, tmp_path / "x.npz")


def test_nothing_to_export(tmp_path: Path) -> None:
    """A recording without images says so."""
    with (
        _recorded(tmp_path, message(Kind.ACK)) as recording,
        pytest.raises(RecordingError, match="no images"),
    ):
        export_npz(recording, tmp_path / "x.npz")


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """An output that cannot be made is named."""
    (tmp_path / "file").write_bytes(b"")
    with (
        _recorded(tmp_path, _samples(1, tiny.make_images(1))) as recording,
        pytest.raises(RecordingError, match="cannot be written"),
    ):
        export_npz(recording, tmp_path / "file" / "x.npz")


def test_inventory(tmp_path: Path) -> None:
    """An inventory counts messages, bytes, images and labels, and finds the versions."""
    images = tiny.make_images(4)
    parts = [
        _stream(1, images), _stream(2, images, labelled=False), _samples(1, images, "cam-5"),
        message(Kind.HEAD, 3), RecordedMessage("weather", b"rain", 10**18, 0),
    ]  # fmt: skip
    with _recorded(tmp_path, *parts) as recording:
        inventory = take_inventory(recording)

    assert inventory.messages == 5
    assert inventory.devices == {"cam-5": 1, "cam-7": 3}
    assert inventory.groups == ["home"]
    assert inventory.kinds["other topics"] == Share(1, 4)
    assert inventory.kinds["stream"].bytes == sum(len(one.payload) for one in parts[:2])
    assert inventory.versions == {"cam-7": [1, 13]}
    assert (inventory.stream_images, inventory.labelled_images) == (8, 4)
    assert inventory.start_ns == 10**18
    assert msgspec.json.encode(inventory)
