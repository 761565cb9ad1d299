"""The raw streams of a recording: whose there are, and each message of them once.

Whatever answers a stream again reads it through this. It reads the recording that it is
given, and nothing else.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.codec import decode_on_topic
from driftwell.messages.errors import RecordingError, WireError
from driftwell.messages.images import Pixels, unpack_images
from driftwell.messages.stream import LABEL, StreamBatch, unpack_stream_columns
from driftwell.messages.topics import Kind
from driftwell.recording.batches import UNKNOWN, Batch
from driftwell.recording.form import MAX_MESSAGE
from driftwell.recording.reader import Recording, Selection, address_of

Damaged = Callable[[RecordingError], None]
"""Told of a message that cannot be used."""


@dataclass(frozen=True, slots=True, order=True)
class Sender:
    """A device of a group; two groups may have a device of one name."""

    group: str
    device: str

    def __str__(self) -> str:
        return f"{self.group}/{self.device}"


@dataclass(frozen=True)
class StreamMessage:
    """One batch of a device's stream; columns are checked, images unpacked when asked for."""

    path: Path
    """Of the recording."""
    topic: str
    group: str
    batch: StreamBatch
    """As it stands in the file."""
    received_ns: int

    @property
    def device(self) -> str:
        """Whose it is."""
        return self.batch.device

    @property
    def session(self) -> str:
        """Which run of the device: from one start of its program to the next."""
        return self.batch.session

    @property
    def version(self) -> int:
        """The version that answered."""
        return self.batch.version

    @property
    def count(self) -> int:
        """N, how many images it holds."""
        return self.batch.count

    @cached_property
    def columns(self) -> dict[str, NDArray[np.generic]]:
        """(N,) each: what is said of the images.

        Raises:
            RecordingError: if they do not unpack.
        """
        try:
            return unpack_stream_columns(self.batch)
        except WireError as error:
            raise self._unusable(error) from error

    @cached_property
    def images(self) -> Pixels:
        """(N, H, W, C).

        Raises:
            RecordingError: if they do not unpack.
        """
        try:
            return unpack_images(self.batch.images)
        except WireError as error:
            raise self._unusable(error) from error

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,): the true classes, `UNKNOWN` for each image without one."""
        labels = self.columns.get(LABEL)
        if labels is None:
            return np.full(self.count, UNKNOWN, np.int64)
        return labels.astype(np.int64)

    def cut(self, start: int, stop: int) -> Batch:
        """The images from `start` up to, not including, `stop`.

        Raises:
            RecordingError: if they do not unpack.
        """
        index = self.columns["index"].astype(np.uint64)
        return Batch(self.images, index, self.labels).part(start, stop)

    def _unusable(self, error: WireError) -> RecordingError:
        return _unusable(self.path, f"message {self.batch.seq}", self.topic, error)


def read_streams(
    recording: Recording,
    devices: Collection[str] | None = None,
    *,
    damaged: Damaged | None = None,
) -> Iterator[StreamMessage]:
    """Yield every message of the chosen streams, in the file's order.

    One that comes again, of the same session and number, is left out; which were there is
    remembered, a number for each message of the file.

    Args:
        recording: Read from end to end.
        devices: `DEVICE` or `GROUP/DEVICE` each; None: all.
        damaged: Told of a message that cannot be used, which is left out then; its images
            are unpacked to find out. Without it such a message is an error.

    Raises:
        RecordingError: if the file is damaged; names it.
    """
    seen: dict[tuple[str, str, str], set[int]] = {}
    for recorded in recording.messages(Selection(kinds={Kind.STREAM}, devices=devices)):
        try:
            message = _open(recording.path, recorded.topic, recorded.payload, recorded.received_ns)
            if damaged is not None:
                _ = message.images
        except RecordingError as error:
            if damaged is None:
                raise
            damaged(error)
            continue
        known = seen.setdefault((message.group, message.device, message.session), set())
        if message.batch.seq not in known:
            known.add(message.batch.seq)
            yield message


def list_senders(recording: Recording, kind: Kind = Kind.STREAM) -> list[Sender]:
    """Every device of which there is a message of a kind, by group and name."""
    addresses = [address_of(topic) for topic, count in recording.topics.items() if count]
    return sorted({Sender(a.group, a.device) for a in addresses if a and a.kind is kind})


def choose_sender(
    path: Path, senders: Collection[Sender], wanted: str | None, *, how: str
) -> Sender:
    """The one device that is meant.

    Args:
        path: Of the recording, for the error.
        senders: Those that there are, one or more.
        wanted: `DEVICE` or `GROUP/DEVICE`; None: the only one.
        how: How another one is chosen.

    Raises:
        RecordingError: if there is no such device, or more than one; it lists those there are.
    """
    known = sorted(senders)
    fitting = [one for one in known if wanted in {None, one.device, str(one)}]
    if not fitting:
        raise RecordingError(f"{path} has no images of {wanted!r}; it has {_names(known, known)}")
    if len(fitting) > 1:
        raise RecordingError(f"{path} has images of {_names(fitting, known)}: choose one, {how}")
    return fitting[0]


def _names(senders: Sequence[Sender], known: Sequence[Sender]) -> str:
    """As short as they are still told apart."""
    is_one_group = len({one.group for one in known}) == 1
    return ", ".join(one.device if is_one_group else str(one) for one in senders)


def _open(path: Path, topic: str, payload: bytes, received_ns: int) -> StreamMessage:
    try:
        address, batch = decode_on_topic(topic, payload, limit_bytes=MAX_MESSAGE)
    except WireError as error:
        raise _unusable(path, "a message", topic, error) from error
    assert isinstance(batch, StreamBatch)  # noqa: S101 - the topic was checked, for mypy only
    message = StreamMessage(path, topic, address.group, batch, received_ns)
    _ = message.columns
    return message


def _unusable(path: Path, which: str, topic: str, error: WireError) -> RecordingError:
    return RecordingError(
        f"{path}: {which} of {topic} cannot be used: {error}; leave its device out"
    )
