"""Where samples come from: `npz:FILE`, `dir:FOLDER` or `mcap:FILE` (`recorded.py`).

A source yields batches with the position after them; starting again from a kept position
goes on exactly there. What cannot be read is counted and left out, never fatal.
"""

import asyncio
import os
import zipfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from driftwell.messages.errors import SourceError
from driftwell.messages.images import Pixels

IMAGE_ENDINGS: Final = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
POLL_S: Final = 0.5
# What numpy lets through of a file that is no .npz, or a damaged one; TypeError: a bare .npy.
_UNREADABLE: Final = (
    KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Some samples of a stream, in order."""

    images: Pixels
    """(N, H, W, C), N >= 1."""
    index: NDArray[np.uint64]
    """(N,): each sample's number in the stream, from 0."""
    position: bytes
    """Where to go on after this batch."""
    unreadable: int = 0
    """Samples left out since the batch before."""
    labels: NDArray[np.int64] | None = None
    """(N,): the true classes, where they are known: for recordings, and for devices that train."""


class Source(Protocol):
    """A stream of batches."""

    def batches(self, position: bytes | None) -> AsyncIterator[SourceBatch]:
        """Yield batches from `position` on (None: from the beginning) until the stream ends."""


def open_source(spec: str, *, shape: tuple[int, int, int], batch: int) -> Source:
    """Open the source a specification names.

    Args:
        spec: `npz:FILE`, `dir:FOLDER`, `mcap:FILE` or `mcap:FILE#DEVICE`.
        shape: Height, width and channels the model takes.
        batch: Samples a batch, at most.

    Raises:
        SourceError: if it is no such specification, or the file or folder cannot be read.
    """
    kind, _, place = spec.partition(":")
    if kind == "npz" and place:
        return ArraySource(*read_stream(Path(place), shape=shape), batch=batch)
    if kind == "dir" and place:
        return FolderSource(Path(place), shape, batch)
    if kind == "mcap" and place:
        from driftwell.edge.recorded import open_recorded

        return open_recorded(place, shape, batch)
    raise SourceError(f"source {spec!r} is not understood; use npz:FILE, dir:FOLDER or mcap:FILE")


def read_stream(
    path: Path, *, shape: tuple[int, int, int], classes: int | None = None
) -> tuple[Pixels, NDArray[np.int64] | None]:
    """Read a recorded stream: `x` uint8 (N, H, W, C) and, if it is there, `y` (N,).

    Raises:
        SourceError: if the file is missing, no such stream, or a label is not a class.
    """
    if not path.is_file():
        raise SourceError(f"stream {path} does not exist")
    try:
        with np.load(path, allow_pickle=False) as content:
            images = content["x"]
            labels = content.get("y")
    except _UNREADABLE as error:
        raise SourceError(f"{path} is not an .npz stream with an array 'x': {error}") from error
    if images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
        raise SourceError(
            f"{path}: 'x' is {images.dtype} {images.shape}, the model takes uint8 (N, "
            f"{', '.join(map(str, shape))})"
        )
    if labels is None:
        return images, None
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise SourceError(f"{path}: 'y' is {labels.dtype} {labels.shape}, not one integer a sample")
    if classes is not None and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise SourceError(
            f"{path}: labels run from {labels.min()} to {labels.max()}, the model has "
            f"{classes} classes"
        )
    return images, labels.astype(np.int64)


class ArraySource:
    """A recorded stream in memory."""

    def __init__(
        self, images: Pixels, labels: NDArray[np.int64] | None = None, *, batch: int
    ) -> None:
        self._images = images
        self._labels = labels
        self._batch = batch

    def __len__(self) -> int:
        return len(self._images)

    async def batches(self, position: bytes | None) -> AsyncIterator[SourceBatch]:
        """Yield the stream in order, the last batch as short as it is."""
        start = int(position or b"0")
        for first in range(start, len(self._images), self._batch):
            images = self._images[first : first + self._batch]
            after = first + len(images)
            index = np.arange(first, after, dtype=np.uint64)
            labels = None if self._labels is None else self._labels[first:after]
            yield SourceBatch(images, index, str(after).encode(), labels=labels)


class FolderSource:
    """A folder watched for new images, oldest first; never ends.

    A file counts as complete when size and time stayed the same over one poll. Images are
    converted to the model's channels and resized to its input.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], batch: int) -> None:
        if not folder.is_dir():
            raise SourceError(f"folder {folder} does not exist")
        self._folder = folder
        self._shape = shape
        self._batch = batch

    async def batches(self, position: bytes | None) -> AsyncIterator[SourceBatch]:
        """Yield what is there and then what comes, as soon as it is complete."""
        number, after = _parse_position(position)
        watched: dict[Path, tuple[int, int]] = {}
        unreadable = 0
        while True:
            found = await asyncio.to_thread(self._scan, after)
            complete = [path for path, mark in found.items() if watched.get(path) == mark]
            watched = found
            for first in range(0, len(complete), self._batch):
                paths = complete[first : first + self._batch]
                images, failed = await asyncio.to_thread(self._read, paths)
                unreadable += failed
                after = (found[paths[-1]][0], paths[-1].name)
                if images:
                    index = np.arange(number, number + len(images), dtype=np.uint64)
                    number += len(images)
                    place = f"{number} {after[0]} ".encode() + os.fsencode(after[1])
                    yield SourceBatch(np.stack(images), index, place, unreadable)
                    unreadable = 0
            await asyncio.sleep(POLL_S)

    def _scan(self, after: tuple[int, str]) -> dict[Path, tuple[int, int]]:
        marks = {}
        for path in self._folder.iterdir():
            if path.suffix.lower() in IMAGE_ENDINGS:
                try:
                    status = path.stat()
                except FileNotFoundError:  # removed since the listing
                    continue
                if (status.st_mtime_ns, path.name) > after:
                    marks[path] = (status.st_mtime_ns, status.st_size)
        return dict(sorted(marks.items(), key=lambda item: (item[1][0], item[0].name)))

    def _read(self, paths: list[Path]) -> tuple[list[Pixels], int]:
        images = []
        for path in paths:
            try:
                images.append(read_image(path, self._shape))
            except SourceError:
                continue
        return images, len(paths) - len(images)


def read_image(path: Path, shape: tuple[int, int, int]) -> Pixels:
    """Read one image file as uint8 of `shape` (H, W, C), C being 1 or 3.

    Raises:
        SourceError: if it is not an image Pillow can read.
    """
    height, width, channels = shape
    try:
        with Image.open(path) as image:
            converted = image.convert("L" if channels == 1 else "RGB")
            resized = converted.resize((width, height), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise SourceError(f"{path} is not a readable image: {error}") from error
    return np.asarray(resized, dtype=np.uint8).reshape(shape)


def _parse_position(position: bytes | None) -> tuple[int, tuple[int, str]]:
    if position is None:
        return 0, (0, "")
    number, time_ns, name = position.split(b" ", 2)
    return int(number), (int(time_ns), os.fsdecode(name))
