"""What a recording holds, counted: devices, kinds, versions, bytes, streams and labels."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from driftwell.messages.codec import decode
from driftwell.messages.errors import WireError
from driftwell.messages.event import Event
from driftwell.messages.head import Head
from driftwell.messages.names import EVERYONE
from driftwell.messages.signing import read_manifest
from driftwell.messages.state import State
from driftwell.messages.stream import LABEL, StreamBatch
from driftwell.messages.topics import Address, Kind
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage
from driftwell.recording.reader import Recording, address_of
from driftwell.recording.survey import Progress

FOREIGN: Final = "other topics"
TELLING: Final = frozenset({Kind.STATE, Kind.EVENT, Kind.HEAD, Kind.STREAM})
"""Kinds that name a version."""


@dataclass(frozen=True, slots=True)
class Share:
    """The part of one kind in a recording."""

    messages: int
    bytes: int
    """Of payloads, unpacked."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a recording holds."""

    size_bytes: int
    """Of the file."""
    start_ns: int
    end_ns: int
    """When the first and the last message were received, by the clock."""
    messages: int
    payload_bytes: int
    groups: list[str]
    devices: dict[str, int]
    """Messages of each."""
    cohorts: list[str]
    kinds: dict[str, Share]
    versions: dict[str, list[int]]
    """Lowest and highest version that is named, by cohort or device; 0 is the source state."""
    stream_images: int
    """Images in whole batches of the stream, which can be answered again."""
    labelled_images: int
    """Those of them that have a label."""
    documents: dict[str, str]


def take_inventory(recording: Recording, *, progress: Progress | None = None) -> Inventory:
    """Read a whole recording and count what it holds.

    Raises:
        RecordingError: if it is damaged.
    """
    counts = _Counts()
    total = sum(recording.topics.values())
    for message in recording.messages():
        counts.take(message)
        if progress is not None:
            progress(counts.messages, total)
    start_ns, end_ns = recording.span_ns
    return Inventory(
        size_bytes=recording.path.stat().st_size,
        start_ns=start_ns,
        end_ns=end_ns,
        messages=counts.messages,
        payload_bytes=sum(counts.bytes.values()),
        groups=sorted(counts.groups),
        devices=dict(sorted(counts.devices.items())),
        cohorts=sorted(counts.cohorts),
        kinds={
            kind: Share(number, counts.bytes[kind]) for kind, number in sorted(counts.kinds.items())
        },
        versions={name: [min(seen), max(seen)] for name, seen in sorted(counts.versions.items())},
        stream_images=counts.stream_images,
        labelled_images=counts.labelled_images,
        documents=recording.documents(),
    )


class _Counts:
    def __init__(self) -> None:
        self.messages = 0
        self.kinds: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.devices: Counter[str] = Counter()
        self.groups: set[str] = set()
        self.cohorts: set[str] = set()
        self.versions: dict[str, set[int]] = {}
        self.stream_images = 0
        self.labelled_images = 0

    def take(self, message: RecordedMessage) -> None:
        self.messages += 1
        address = address_of(message.topic)
        kind = str(address.kind) if address else FOREIGN
        self.kinds[kind] += 1
        self.bytes[kind] += len(message.payload)
        if address is None:
            return
        self.groups.add(address.group)
        if address.device != EVERYONE:
            self.devices[address.device] += 1
        if address.kind in TELLING:
            self._take_version(address, message.payload)

    def _take_version(self, address: Address, payload: bytes) -> None:
        try:
            message = decode(payload, limit_bytes=MAX_MESSAGE)
        except WireError:
            return
        match message:
            case Head():
                self._take_head(message)
            case State():
                self.cohorts.add(message.cohort)
                self._note(address.device, message.version)
            case Event():
                self._note(address.device, message.version)
            case StreamBatch():
                self.cohorts.add(message.cohort)
                self._note(address.device, message.version)
                self.stream_images += message.count
                if any(column.name == LABEL for column in message.columns):
                    self.labelled_images += message.count
            case _:
                pass

    def _take_head(self, message: Head) -> None:
        try:
            manifest = read_manifest(message.manifest)
        except WireError:
            return
        self.cohorts.add(manifest.cohort)
        self._note(manifest.cohort, manifest.version)

    def _note(self, name: str, version: int) -> None:
        lowest_and_highest = self.versions.setdefault(name, set())
        lowest_and_highest.add(version)
        if len(lowest_and_highest) > 2:  # noqa: PLR2004 - the two that are told
            lowest_and_highest -= set(sorted(lowest_and_highest)[1:-1])
