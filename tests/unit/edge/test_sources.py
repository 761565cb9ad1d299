"""Streams from files and folders: what is wrong is said, what is there comes once, in order."""

import asyncio
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import tiny

from driftwell.edge.sources import SourceBatch, open_source, read_image, read_stream
from driftwell.messages.errors import SourceError

IMAGES = tiny.make_images(5)


def truncated(file: Path) -> None:
    np.savez_compressed(file, x=np.zeros((2000, *tiny.SHAPE), np.uint8), y=np.arange(2000))
    content = bytearray(file.read_bytes())
    content[60:120] = bytes(60)
    file.write_bytes(content)


BROKEN: dict[str, Callable[[Path], object]] = {
    "missing": lambda file: file,
    "garbage": lambda file: file.write_bytes(b"garbage" * 50),
    "empty": lambda file: file.write_bytes(b""),
    "damaged": truncated,
    "no-x": lambda file: np.savez(file, z=IMAGES),
    "one-array": lambda file: np.save(file.open("wb"), IMAGES),
    "objects": lambda file: np.savez(file, x=np.array([{}], dtype=object)),
    "float": lambda file: np.savez(file, x=IMAGES.astype(np.float32)),
    "wrong-shape": lambda file: np.savez(file, x=np.zeros((3, 8, 9, 1), np.uint8)),
    "no-images": lambda file: np.savez(file, x=IMAGES[:0]),
    "scalar": lambda file: np.savez(file, x=np.uint8(3)),
    "labels-short": lambda file: np.savez(file, x=IMAGES, y=np.zeros(4, int)),
    "labels-float": lambda file: np.savez(file, x=IMAGES, y=np.zeros(5)),
    "labels-too-large": lambda file: np.savez(file, x=IMAGES, y=np.full(5, 4)),
    "labels-negative": lambda file: np.savez(file, x=IMAGES, y=np.full(5, -1)),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_stream_is_an_error_that_names_the_file(tmp_path: Path, what: str) -> None:
    """Whatever is wrong with the file, a SourceError comes out, and its text has the path."""
    file = tmp_path / "stream.npz"
    BROKEN[what](file)

    with pytest.raises(SourceError, match=r"stream\.npz"):
        read_stream(file, shape=tiny.SHAPE, classes=4)


def test_a_stream_is_read_whole(tmp_path: Path) -> None:
    """Images and labels come back as they were written; labels may be missing."""
    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.array([0, 1, 2, 3, 0], np.uint8))
    np.savez(tmp_path / "b.npz", x=IMAGES)

    images, labels = read_stream(tmp_path / "a.npz", shape=tiny.SHAPE, classes=4)
    assert np.array_equal(images, IMAGES)
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3, 0]
    assert read_stream(tmp_path / "b.npz", shape=tiny.SHAPE)[1] is None


@pytest.mark.parametrize("spec", ["", "npz:", "dir:", "camera:0", "stream.npz", "dir:/no/such"])
def test_what_is_no_source_is_refused(spec: str) -> None:
    """A specification that is not understood, or a folder that is not there, is an error."""
    with pytest.raises(SourceError):
        open_source(spec, shape=tiny.SHAPE, batch=2)


async def test_a_recorded_stream_goes_on_from_any_position(tmp_path: Path) -> None:
    """Batches come in order with their indices, the last one short; a kept position resumes."""
    np.savez(tmp_path / "a.npz", x=IMAGES)
    source = open_source(f"npz:{tmp_path / 'a.npz'}", shape=tiny.SHAPE, batch=2)

    whole = [batch async for batch in source.batches(None)]

    assert [batch.index.tolist() for batch in whole] == [[0, 1], [2, 3], [4]]
    assert np.array_equal(np.concatenate([batch.images for batch in whole]), IMAGES)
    for done, batch in enumerate(whole, start=1):
        rest = [later async for later in source.batches(batch.position)]
        assert [b.index.tolist() for b in rest] == [b.index.tolist() for b in whole[done:]]


def save_image(folder: Path, name: str, *, at: int, value: int = 100) -> None:
    image = Image.fromarray(np.full((8, 8), value, np.uint8))
    image.save(folder / name)
    os.utime(folder / name, (at, at))


async def take(folder: Path, position: bytes | None, count: int) -> list[SourceBatch]:
    """The next batches of a watched folder until they hold `count` images."""
    taken: list[SourceBatch] = []
    async with asyncio.timeout(20):
        stream = open_source(f"dir:{folder}", shape=tiny.SHAPE, batch=2).batches(position)
        async for batch in stream:
            taken.append(batch)
            if sum(len(one.index) for one in taken) >= count:
                break
    return taken


async def test_a_folder_is_read_oldest_first_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old files come by age, unreadable ones are counted, others left alone; new ones follow."""
    monkeypatch.setattr("driftwell.edge.sources.POLL_S", 0.01)
    save_image(tmp_path, "b.png", at=100, value=10)
    save_image(tmp_path, "a.png", at=200, value=20)
    (tmp_path / "broken.png").write_bytes(b"no image")
    os.utime(tmp_path / "broken.png", (150, 150))
    (tmp_path / "notes.txt").write_text("no image either")

    first = await take(tmp_path, None, 2)

    pixels = [int(image[0, 0, 0]) for batch in first for image in batch.images]
    assert pixels == [10, 20]
    assert [i for batch in first for i in batch.index.tolist()] == [0, 1]
    assert sum(batch.unreadable for batch in first) == 1

    save_image(tmp_path, "c.png", at=300, value=30)
    (resumed,) = await take(tmp_path, first[-1].position, 1)
    assert resumed.index.tolist() == [2]
    assert int(resumed.images[0, 0, 0, 0]) == 30


async def test_a_file_is_taken_only_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose size still changes between two looks is left for later."""
    monkeypatch.setattr("driftwell.edge.sources.POLL_S", 0.01)
    save_image(tmp_path, "a.png", at=100)
    content = (tmp_path / "a.png").read_bytes()
    looks = 0

    source = open_source(f"dir:{tmp_path}", shape=tiny.SHAPE, batch=1)
    scan = source._scan  # type: ignore[attr-defined]

    def scan_while_it_grows(after: tuple[int, str]) -> object:
        nonlocal looks
        looks += 1
        if looks <= 3:
            (tmp_path / "a.png").write_bytes(content[: 10 * looks])
        else:
            (tmp_path / "a.png").write_bytes(content)
        os.utime(tmp_path / "a.png", (100, 100))
        return scan(after)

    source._scan = scan_while_it_grows  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        batch = await anext(aiter(source.batches(None)))

    assert looks == 5
    assert batch.unreadable == 0


async def test_a_name_that_is_no_text_is_a_name_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file name with bytes that are no UTF-8 can be read and resumed after."""
    monkeypatch.setattr("driftwell.edge.sources.POLL_S", 0.01)
    save_image(tmp_path, "a.png", at=100)
    (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"\xff.png"))

    (batch,) = await take(tmp_path, None, 1)
    save_image(tmp_path, "z.png", at=101)
    (after,) = await take(tmp_path, batch.position, 1)

    assert after.index.tolist() == [1]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_images_are_unreadable_and_nothing_worse(tmp_path: Path, kind: str) -> None:
    """Whatever bytes of an image file are altered, it is read or refused as a SourceError."""
    stream = io.BytesIO()
    Image.fromarray(tiny.make_images(1)[0, :, :, 0]).save(stream, kind)
    content = stream.getvalue()
    draw = np.random.default_rng(1)
    file = tmp_path / "image"
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for position in draw.integers(0, len(content), 4):
            damaged[position] = int(draw.integers(0, 256))
        file.write_bytes(damaged)
        try:
            assert read_image(file, tiny.SHAPE).shape == tiny.SHAPE
        except SourceError:
            refused += 1

    file.write_bytes(content)
    assert read_image(file, (4, 6, 3)).shape == (4, 6, 3)
    assert kind == "BMP" or refused > 0
