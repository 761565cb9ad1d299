"""A stream out of a recording, as a source: `mcap:FILE`, or `mcap:FILE#DEVICE`.

The images of one device's stream messages, cut anew into batches of the size asked for.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.sources import SourceBatch
from driftwell.messages.codec import decode
from driftwell.messages.errors import RecordingError, SourceError, WireError
from driftwell.messages.images import Pixels, unpack_images
from driftwell.messages.stream import LABEL, StreamBatch, unpack_stream_columns
from driftwell.messages.topics import Kind
from driftwell.recording.form import MAX_MESSAGE
from driftwell.recording.reader import Recording, Selection, address_of

Labels = NDArray[np.int64] | None


def open_recorded(place: str, shape: tuple[int, int, int], batch: int) -> "RecordedSource":
    """Open what stands behind `mcap:`.

    Args:
        place: `FILE` or `FILE#DEVICE`.
        shape: Height, width and channels the model takes.
        batch: Samples a batch, at most.

    Raises:
        SourceError: if it cannot be read, holds no stream, or several and none was named.
    """
    file, _, device = place.partition("#")
    try:
        with Recording(Path(file)) as recording:
            addresses = [address_of(topic) for topic in recording.topics]
    except RecordingError as error:
        raise SourceError(str(error)) from error
    streams = sorted({a.device for a in addresses if a is not None and a.kind is Kind.STREAM})
    if not streams:
        raise SourceError(
            f"{file} holds no stream, only what went over the network; record at the device: "
            "driftwell edge run --record FILE"
        )
    if not device and len(streams) > 1:
        raise SourceError(f"{file} holds streams of {', '.join(streams)}: choose one, {file}#NAME")
    if device and device not in streams:
        raise SourceError(f"{file} holds no stream of {device!r}; it has {', '.join(streams)}")
    return RecordedSource(Path(file), device or streams[0], shape, batch)


def read_stream_batches(
    recording: Recording, device: str
) -> Iterator[tuple[StreamBatch, Pixels, Labels]]:
    """A device's stream messages, with their images (N, H, W, C) and labels (N,).

    Raises:
        SourceError: if the recording is damaged.
    """
    try:
        for message in recording.messages(Selection(kinds={Kind.STREAM}, devices={device})):
            batch = decode(message.payload, limit_bytes=MAX_MESSAGE)
            if isinstance(batch, StreamBatch):
                label = unpack_stream_columns(batch).get(LABEL)
                labels = None if label is None else label.astype(np.int64)
                yield batch, unpack_images(batch.images), labels
    except (RecordingError, WireError) as error:
        raise SourceError(f"{recording.path}: {error}") from error


class RecordedSource:
    """The stream of one device of a recording."""

    def __init__(self, path: Path, device: str, shape: tuple[int, int, int], batch: int) -> None:
        self._path = path
        self._device = device
        self._shape = shape
        self._batch = batch

    async def batches(self, position: bytes | None) -> AsyncIterator[SourceBatch]:
        """Yield the stream in order from a position on, the last batch as short as it is."""
        number = int(position or b"0")
        for images, labels in self._cut(skip=number):
            after = number + len(images)
            index = np.arange(number, after, dtype=np.uint64)
            yield SourceBatch(images, index, str(after).encode(), labels=labels)
            number = after

    def _cut(self, skip: int) -> Iterator[tuple[Pixels, Labels]]:
        """Batches of the size asked for, whatever the recorded ones were."""
        images: list[Pixels] = []
        labels: list[NDArray[np.int64]] = []
        held = 0
        for recorded, known in self._recorded():
            dropped = min(skip, len(recorded))
            skip -= dropped
            images.append(recorded[dropped:])
            labels.append(np.zeros(0, np.int64) if known is None else known[dropped:])
            held += len(recorded) - dropped
            while held >= self._batch:
                whole, marks = np.concatenate(images), np.concatenate(labels)
                yield whole[: self._batch], _fitting(marks[: self._batch], self._batch)
                images, labels = [whole[self._batch :]], [marks[self._batch :]]
                held -= self._batch
        if held:
            yield np.concatenate(images), _fitting(np.concatenate(labels), held)

    def _recorded(self) -> Iterator[tuple[Pixels, Labels]]:
        try:
            with Recording(self._path) as recording:
                for _, images, labels in read_stream_batches(recording, self._device):
                    if images.shape[1:] != self._shape:
                        raise SourceError(
                            f"{self._path}: images are {images.shape[1:]}, the model takes "
                            f"{self._shape}"
                        )
                    yield images, labels
        except RecordingError as error:
            raise SourceError(str(error)) from error


def _fitting(labels: NDArray[np.int64], count: int) -> Labels:
    """The labels, if there is one for each image: some batches may have had none."""
    return labels if len(labels) == count else None
