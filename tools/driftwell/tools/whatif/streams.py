"""Reads the raw streams of a recording: every batch that was answered, in the file's order."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.filter import Verdict
from driftwell.messages.stream import StreamBatch
from driftwell.messages.topics import Kind
from driftwell.recording.batches import Batch
from driftwell.recording.reader import Recording, Selection
from driftwell.recording.streams import Sender, StreamMessage, read_streams
from driftwell.tools.virtual.part import Run


@dataclass(frozen=True, slots=True)
class Choice:
    """Which part of a recording is run again."""

    path: Path
    devices: tuple[str, ...] | None = None
    """`DEVICE` or `GROUP/DEVICE` each; None: all."""
    limit: int | None = None
    """Images of each device at most; None: all."""

    def selection(self, *kinds: Kind) -> Selection:
        """What to read of the file."""
        return Selection(kinds=kinds, devices=self.devices)


@dataclass(frozen=True, slots=True)
class Part:
    """One recorded batch, or as much of it as is wanted."""

    stream: StreamMessage
    count: int
    """Its first so many images are wanted, one or more."""

    @property
    def message(self) -> StreamBatch:
        """As it was recorded."""
        return self.stream.batch

    @property
    def time_ns(self) -> int:
        """When it was recorded."""
        return self.stream.received_ns

    @property
    def run(self) -> Run:
        """Whose it is."""
        return self.stream.device, self.stream.session

    def batch(self) -> Batch:
        """Images and labels, unpacked.

        Raises:
            RecordingError: if they do not unpack.
        """
        return self.stream.cut(0, self.count)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(count,): the true classes, -1 where they were not recorded."""
        return self.stream.labels[: self.count]

    @property
    def answers(self) -> NDArray[np.int64]:
        """(count,): what the device answered when it was recorded."""
        return self.stream.columns["prediction"][: self.count].astype(np.int64)

    @property
    def selected(self) -> int:
        """How many of the images its filter selected when it was recorded."""
        verdicts = self.stream.columns["verdict"][: self.count]
        return int(np.count_nonzero(verdicts == Verdict.SELECTED))


def read_parts(choice: Choice) -> Iterator[Part]:
    """Yield the chosen batches of the raw streams, in the file's order.

    Raises:
        RecordingError: if the file is damaged, or a batch in it cannot be used.
    """
    taken: Counter[Sender] = Counter()
    with Recording(choice.path) as recording:
        for message in read_streams(recording, choice.devices):
            sender = Sender(message.group, message.device)
            count = message.count
            if choice.limit is not None:
                count = min(count, choice.limit - taken[sender])
            taken[sender] += count
            if count > 0:
                yield Part(message, count)
