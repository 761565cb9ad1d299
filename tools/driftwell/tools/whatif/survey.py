"""The first look at a recording: what is in it, and how the live run went."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from driftwell.broker.connection import publish_packet_size
from driftwell.messages.codec import decode_on_topic
from driftwell.messages.errors import RecordingError, WireError
from driftwell.messages.event import Event
from driftwell.messages.head import Head
from driftwell.messages.names import EVERYONE, split_domain
from driftwell.messages.samples import SampleBatch
from driftwell.messages.signing import read_manifest
from driftwell.messages.state import State
from driftwell.messages.topics import ROUTES, Address, Kind
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage
from driftwell.recording.reader import Recording, Selection, address_of, is_of
from driftwell.tools.virtual.part import Run
from driftwell.tools.virtual.tally import Made, Tally
from driftwell.tools.whatif.measuring import measure
from driftwell.tools.whatif.recorded import RecordedSettings, read_documents
from driftwell.tools.whatif.results import LIVE, Outcome
from driftwell.tools.whatif.streams import Choice, read_parts

WIRE: Final = frozenset({Kind.SAMPLES, Kind.EVENT, Kind.STATE, Kind.HEAD})
HOW_TO_RECORD: Final = (
    "raw streams are recorded at the device: driftwell edge run --record OUT.mcap, or "
    "driftwell bench stream --record OUT.mcap"
)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a recording holds, of what was chosen."""

    group: str
    model: str
    """The digest of the edge bundle that was recorded."""
    cohorts: dict[str, str]
    """The cohort of each device whose raw stream is there; empty if there is none."""
    batches: dict[Run, int]
    """How many batches of its raw stream each run of a device has."""
    messages: int
    """How many messages a variant reads."""
    settings: RecordedSettings
    live: Outcome


def survey_recording(choice: Choice) -> Survey:
    """Read a recording once, from end to end.

    Raises:
        RecordingError: if it is damaged, or holds nothing that could be run again.
    """
    with Recording(choice.path) as recording:
        group, kinds = _look(choice, recording.topics)
        settings = read_documents(recording.documents(), group)
        live = _Live(choice, group)
        live.read_streams()
        if live.cohorts:
            _require_streams(choice, live, kinds)
        # Heads too, which may be of nobody's topic: whose they are is decided one by one.
        for message in recording.messages(Selection(kinds=WIRE)):
            live.take(message)
    if not live.models:
        raise RecordingError(
            f"{choice.path} holds no raw stream and no sample batch of the chosen devices: there "
            f"is nothing to run again; {HOW_TO_RECORD}"
        )
    if len(live.models) > 1:
        raise RecordingError(
            f"{choice.path} is of {len(live.models)} edge models; choose devices of one of them "
            "with --device"
        )
    return Survey(
        group=group,
        model=next(iter(live.models)),
        cohorts=live.cohorts,
        batches=dict(live.batches),
        messages=sum(live.batches.values()) or live.uploads_and_states,
        settings=settings,
        live=live.outcome(),
    )


def _look(choice: Choice, topics: Iterable[str]) -> tuple[str, dict[str, set[str]]]:
    """The group, and the kinds of messages each chosen device has."""
    kinds: dict[str, set[str]] = {}
    groups: set[str] = set()
    found: set[str] = set()
    for topic in topics:
        address = address_of(topic)
        if address is None or address.kind not in {Kind.STREAM, Kind.SAMPLES}:
            continue
        if choice.devices is None or is_of(address, choice.devices):
            groups.add(address.group)
            found |= {address.device, f"{address.group}/{address.device}"}
            kinds.setdefault(address.device, set()).add(str(address.kind))
    missing = sorted(set(choice.devices or ()) - found)
    if missing:
        raise RecordingError(
            f"{choice.path} holds nothing to run again of {', '.join(missing)}; --device takes the "
            "names that driftwell recording info prints"
        )
    if len(groups) > 1:
        raise RecordingError(
            f"{choice.path} holds the groups {', '.join(sorted(groups))}; choose devices of one "
            "with --device DEVICE or --device GROUP/DEVICE"
        )
    return next(iter(groups), "default"), kinds


def _require_streams(choice: Choice, live: "_Live", kinds: dict[str, set[str]]) -> None:
    without = sorted(kinds.keys() - live.cohorts.keys())
    if without:
        devices = " ".join(f"--device {device}" for device in sorted(live.cohorts))
        raise RecordingError(
            f"{choice.path} holds uploads of {', '.join(without)} but no raw stream; leave them "
            f"out with {devices} ({HOW_TO_RECORD})"
        )


@dataclass(slots=True)
class _Live:
    """Counts what the recording says of the live run."""

    choice: Choice
    group: str
    """Of the chosen devices; what other groups say does not concern them."""
    tally: Tally = field(default_factory=Tally)
    models: set[str] = field(default_factory=set)
    cohorts: dict[str, str] = field(default_factory=dict)
    batches: Counter[Run] = field(default_factory=Counter)
    uploads_and_states: int = 0
    _made: set[tuple[str, int, str]] = field(default_factory=set)
    _seen: set[tuple[str, str, int]] = field(default_factory=set)
    _members: dict[str, set[str]] = field(default_factory=dict)
    _heard: set[str] = field(default_factory=set)
    """Kinds of which there was a message."""
    _gone: set[str] = field(default_factory=set)
    """Devices that have stopped, or are lost, and listen to nothing."""

    def read_streams(self) -> None:
        for part in read_parts(self.choice):
            message = part.message
            self.models.add(message.model)
            self.cohorts.setdefault(message.device, message.cohort)
            self._members.setdefault(message.cohort, set()).add(message.device)
            self.batches[part.run] += 1
            self.tally.begin(part.time_ns)
            self.tally.answer(part.answers, part.labels)
            self.tally.upload(part.selected, part.time_ns)

    def take(self, recorded: RecordedMessage) -> None:
        """Count one message of the wire, if it concerns a chosen device."""
        try:
            address, message = decode_on_topic(
                recorded.topic, recorded.payload, limit_bytes=MAX_MESSAGE
            )
        except WireError:
            return  # a cloud refuses it too
        if address.group != self.group:
            return
        if isinstance(message, Head):
            self._take_head(recorded, address, message)
            return
        if self.choice.devices is not None and not is_of(address, self.choice.devices):
            return
        self._heard.add(str(address.kind))
        if address.kind in {Kind.SAMPLES, Kind.STATE}:
            self.uploads_and_states += 1
        match message:
            case SampleBatch():
                self._take_samples(recorded, message)
            case Event():
                self._take_event(message)
            case State(status="ready"):
                self._gone.discard(message.device)
            case State():
                self._gone.add(message.device)
            case _:
                pass

    def outcome(self) -> Outcome:
        """How the live run went; a part of a recording leaves the wire's numbers unknown."""
        is_whole = self.choice.limit is None and bool(self._heard)
        if not is_whole:
            unknown = dict.fromkeys(
                ("bytes_up", "bytes_down", "lag_s_p50", "versions", "applied", "refused")
            )
            return measure(self.tally, LIVE, **unknown)
        self.tally.made = [Made(cohort=c, version=v, digest=d) for c, v, d in sorted(self._made)]
        unknown = {}
        if str(Kind.SAMPLES) not in self._heard and self.tally.uploads:
            unknown["bytes_up"] = None
        return measure(self.tally, LIVE, **unknown)

    def _take_samples(self, recorded: RecordedMessage, batch: SampleBatch) -> None:
        self.models.add(batch.model)
        self._members.setdefault(batch.cohort, set()).add(batch.device)
        self.tally.bytes_up += publish_packet_size(
            recorded.topic, recorded.payload, ROUTES[Kind.SAMPLES].qos
        )
        name = batch.device, batch.session, batch.seq
        if not self.cohorts and name not in self._seen:
            self.tally.begin(recorded.received_ns)
            self.tally.upload(batch.count, recorded.received_ns)
            self._seen.add(name)

    def _take_head(self, recorded: RecordedMessage, address: Address, head: Head) -> None:
        cohort, _ = split_domain(address.cohort or address.device)
        members = self._members.get(cohort, set())
        own = {address.device} if address.device != EVERYONE else members - {cohort}
        if not own & members:
            return
        try:
            manifest = read_manifest(head.manifest)
        except WireError:
            return  # a device refuses it too
        self._heard.add(str(Kind.HEAD))
        self._made.add((manifest.cohort, manifest.version, manifest.result))
        self.tally.bytes_down += len(own & members - self._gone) * publish_packet_size(
            recorded.topic, recorded.payload, ROUTES[Kind.HEAD].qos
        )

    def _take_event(self, event: Event) -> None:
        if event.event == "applied":
            self.tally.applied += 1
            if event.lag_s is not None:
                self.tally.lags_s.append(event.lag_s)
        elif event.event == "refused":
            self.tally.refused += 1
