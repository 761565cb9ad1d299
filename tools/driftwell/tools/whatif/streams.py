"""Reads the raw streams of a recording: every batch that was answered, in the file's order."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.filter import Verdict
from driftwell.messages.codec import decode_on_topic
from driftwell.messages.errors import RecordingError, WireError
from driftwell.messages.images import Pixels, unpack_images
from driftwell.messages.stream import LABEL, StreamBatch, unpack_stream_columns
from driftwell.messages.topics import Kind
from driftwell.recording.form import MAX_MESSAGE
from driftwell.recording.reader import Recording, Selection
from driftwell.tools.whatif.batches import NO_LABEL, Batch

Run = tuple[str, str]
"""A device, and one session of it: from one start of its program to the next."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which part of a recording is run again."""

    path: Path
    devices: tuple[str, ...] | None = None
    """None: all."""
    limit: int | None = None
    """Images of each device at most; None: all."""

    def selection(self, *kinds: Kind) -> Selection:
        """What to read of the file."""
        return Selection(kinds=kinds, devices=self.devices)


@dataclass(frozen=True, slots=True)
class Part:
    """One recorded batch, or as much of it as is wanted."""

    topic: str
    message: StreamBatch
    time_ns: int
    """When it was recorded."""
    count: int
    """Its first so many images are wanted, one or more."""

    @property
    def run(self) -> Run:
        """Whose it is."""
        return self.message.device, self.message.session

    def batch(self) -> Batch:
        """Images and labels, unpacked.

        Raises:
            RecordingError: if they do not unpack.
        """
        try:
            images: Pixels = unpack_images(self.message.images)[: self.count]
        except WireError as error:
            raise _damaged(self.topic, self.message, error) from error
        return Batch(images, self._column("index").astype(np.uint64), self.labels)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(count,): the true classes, `NO_LABEL` where they were not recorded."""
        if not any(column.name == LABEL for column in self.message.columns):
            return np.full(self.count, NO_LABEL, np.int64)
        return self._column(LABEL).astype(np.int64)

    @property
    def answers(self) -> NDArray[np.int64]:
        """(count,): what the device answered when it was recorded."""
        return self._column("prediction").astype(np.int64)

    @property
    def selected(self) -> int:
        """How many of the images its filter selected when it was recorded."""
        return int(np.count_nonzero(self._column("verdict") == Verdict.SELECTED))

    def _column(self, name: str) -> NDArray[np.generic]:
        try:
            return unpack_stream_columns(self.message)[name][: self.count]
        except WireError as error:
            raise _damaged(self.topic, self.message, error) from error


def read_parts(choice: Choice) -> Iterator[Part]:
    """Yield the chosen batches of the raw streams, in the file's order.

    Raises:
        RecordingError: if the file is damaged, or a batch in it cannot be used.
    """
    taken: Counter[str] = Counter()
    with Recording(choice.path) as recording:
        for recorded in recording.messages(choice.selection(Kind.STREAM)):
            try:
                _, message = decode_on_topic(
                    recorded.topic, recorded.payload, limit_bytes=MAX_MESSAGE
                )
            except WireError as error:
                raise _damaged(recorded.topic, None, error) from error
            if not isinstance(message, StreamBatch):
                continue
            count = message.count
            if choice.limit is not None:
                count = min(count, choice.limit - taken[message.device])
            taken[message.device] += count
            if count > 0:
                yield Part(recorded.topic, message, recorded.received_ns, count)


def _damaged(topic: str, message: StreamBatch | None, error: WireError) -> RecordingError:
    number = f"message {message.seq} of" if message else "a message of"
    return RecordingError(
        f"{number} {topic} cannot be used: {error}; leave its device out with --device"
    )
