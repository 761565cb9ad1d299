"""A stream out of a recording, as a source: `mcap:FILE`, or `mcap:FILE#DEVICE`.

The images of one device's stream messages, cut anew into batches of the size asked for.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np

from driftwell.edge.sources import SourceBatch
from driftwell.messages.errors import RecordingError, SourceError
from driftwell.recording.batches import UNKNOWN, Batch, Cutter
from driftwell.recording.reader import Recording
from driftwell.recording.streams import Sender, choose_sender, list_senders, read_streams


def open_recorded(place: str, shape: tuple[int, int, int], batch: int) -> "RecordedSource":
    """Open what stands behind `mcap:`.

    Args:
        place: `FILE`, `FILE#DEVICE` or `FILE#GROUP/DEVICE`.
        shape: Height, width and channels the model takes.
        batch: Samples a batch, at most.

    Raises:
        SourceError: if it cannot be read, holds no stream, or several and none was named.
    """
    file, _, device = place.partition("#")
    path = Path(file)
    try:
        with Recording(path) as recording:
            senders = list_senders(recording)
        if not senders:
            raise SourceError(
                f"{file} holds no stream, only what went over the network; record at the "
                "device: driftwell edge run --record FILE"
            )
        sender = choose_sender(path, senders, device or None, how=f"{file}#NAME")
    except RecordingError as error:
        raise SourceError(str(error)) from error
    return RecordedSource(path, sender, shape, batch)


class RecordedSource:
    """The stream of one device of a recording."""

    def __init__(self, path: Path, sender: Sender, shape: tuple[int, int, int], batch: int) -> None:
        self._path = path
        self._sender = sender
        self._shape = shape
        self._batch = batch

    async def batches(self, position: bytes | None) -> AsyncIterator[SourceBatch]:
        """Yield the stream in order from a position on, the last batch as short as it is."""
        number = int(position or b"0")
        for batch in self._cut(skip=number):
            after = number + len(batch)
            index = np.arange(number, after, dtype=np.uint64)
            is_labelled = bool((batch.labels != UNKNOWN).all())
            labels = batch.labels if is_labelled else None
            yield SourceBatch(batch.images, index, str(after).encode(), labels=labels)
            number = after

    def _cut(self, skip: int) -> Iterator[Batch]:
        """Batches of the size asked for, whatever the recorded ones were."""
        cutter = Cutter(self._batch)
        for batch in self._recorded(skip):
            yield from cutter.add(batch)
        yield from cutter.rest()

    def _recorded(self, skip: int) -> Iterator[Batch]:
        try:
            with Recording(self._path) as recording:
                for message in read_streams(recording, {str(self._sender)}):
                    if message.batch.images.shape[1:] != self._shape:
                        raise SourceError(
                            f"{self._path}: images are {message.batch.images.shape[1:]}, the "
                            f"model takes {self._shape}"
                        )
                    if skip < message.count:
                        yield message.cut(skip, message.count)
                    skip = max(0, skip - message.count)
        except RecordingError as error:
            raise SourceError(str(error)) from error
