"""Straight into a cloud: the recording's messages, and every version they lead to."""

import contextlib
import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import torch

from driftwell.cloud.settings import CloudSettings
from driftwell.cloud.virtual import VirtualCloud, open_virtual_cloud
from driftwell.messages.codec import read_sender
from driftwell.messages.envelope import Digest
from driftwell.messages.errors import SettingsError, WireError
from driftwell.messages.topics import Kind, parse_topic
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.recording.form import RecordedMessage
from driftwell.recording.reader import Selection
from driftwell.tools.replay.cloud_settings import is_other_foundation, repeated_settings
from driftwell.tools.replay.outcome import CloudReplay, Version
from driftwell.tools.replay.plan import Plan, Wishes, make_plan
from driftwell.tools.replay.playhead import Playhead
from driftwell.tools.replay.rewriting import rewrite
from driftwell.tools.replay.tape import Tape
from driftwell.tools.replay.timeline import SECOND_NS

HEARD: Final = (Kind.STATE, Kind.TELEMETRY, Kind.SAMPLES, Kind.UPDATE, Kind.EVENT)
"""What a cloud listens to."""


@dataclass(frozen=True, slots=True)
class ReadyReplay:
    """Everything a replay needs, found and checked, before a network is built."""

    tape: Tape
    plan: Plan
    settings: CloudSettings
    folder: Path
    """Of the cloud's state, empty."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What a replay with a pace goes by."""

    monotonic_s: Callable[[], float]
    sleep: Callable[[float], None]


class _Model(msgspec.Struct, frozen=True):
    model: Digest


_model: Final[msgspec.msgpack.Decoder[_Model]] = msgspec.msgpack.Decoder(_Model)


@contextlib.contextmanager
def open_cloud_replay(
    path: Path,
    wishes: Wishes,
    *,
    state: Path | None,
    method: str | None,
    file: Path | None,
    assignments: Iterable[str],
    flags: Mapping[str, object],
) -> Iterator[ReadyReplay]:
    """Open the recording and settle what is replayed, with which settings, and where.

    Args:
        path: The recording.
        wishes: What of it.
        state: The cloud's state folder, new or empty; None: one that goes away again.
        method: As `repeated_settings` takes it, like all that follow.
        file: TOML file, or None.
        assignments: `key=value`.
        flags: By setting name.

    Raises:
        DriftwellError: what is wrong, or not there.
    """
    with Tape(path) as tape:
        plan = make_plan(wishes, tape.recording.topics, tape.whole, kinds=HEARD)
        if len(plan.groups) > 1:
            raise SettingsError(
                f"a cloud serves one group, and there are {', '.join(plan.groups)}: "
                "choose one with --group"
            )
        settings = repeated_settings(
            tape.recording.documents(),
            group=plan.groups[0],
            method=method,
            file=file,
            assignments=assignments,
            flags=flags,
        )
        with _folder(state) as folder:
            yield ReadyReplay(tape, plan, settings, folder)


def replay_into_cloud(
    replay: ReadyReplay,
    *,
    threads: int,
    clock: Clock,
    progress: Callable[[int], object],
    outcome: CloudReplay,
) -> None:
    """Drive a cloud by recorded time.

    Args:
        replay: What is replayed.
        threads: For training. The versions do not depend on it.
        clock: Measures, and waits if the replay has a pace.
        progress: Told how far it has come, in recorded nanoseconds.
        outcome: Filled as the replay goes, so that it is there when it is interrupted.

    Raises:
        DriftwellError: if recording or bundles cannot be read or do not fit each other.
    """
    torch.set_num_threads(threads)
    settings = replay.settings
    edge, foundation = open_bundle(settings.edge), open_bundle(settings.foundation)
    require_model(replay.tape, replay.plan, edge)
    outcome.is_taught_otherwise = is_other_foundation(
        replay.tape.recording.documents(), settings.group, foundation.digest
    )
    with open_virtual_cloud(
        settings, replay.folder, edge=edge, foundation=foundation, monotonic_s=clock.monotonic_s
    ) as cloud:
        began_s = clock.monotonic_s()
        try:
            _feed(cloud, replay, clock, progress, outcome)
        finally:
            outcome.taken_s = clock.monotonic_s() - began_s
            outcome.training_s = cloud.training_s
            outcome.refused.update(_refused(cloud))
            outcome.versions.sort()


def require_model(tape: Tape, plan: Plan, edge: Bundle) -> None:
    """Make sure that the samples are of the bundle, by the first ones of each device.

    Raises:
        SettingsError: if they are of another model.
    """
    unseen = {topic for topic in plan.topics if parse_topic(topic).kind is Kind.SAMPLES}
    wanted = Selection(kinds={Kind.SAMPLES})
    for message in itertools.takewhile(lambda _: unseen, tape.recording.messages(wanted)):
        if message.topic not in unseen:
            continue
        model = _model_of(message)
        if model is None:
            continue
        unseen.discard(message.topic)
        if model != edge.digest:
            device = parse_topic(message.topic).device
            raise SettingsError(
                f"the samples of {device} are of model {model[:12]}, {edge.path} is "
                f"{edge.digest[:12]}: give the bundle the devices ran (--edge), or choose "
                "others (--device)"
            )


@contextlib.contextmanager
def _folder(state: Path | None) -> Iterator[Path]:
    if state is None:
        with tempfile.TemporaryDirectory(prefix="driftwell-replay-") as passing:
            yield Path(passing)
        return
    try:
        is_taken = state.exists() and any(state.iterdir())
    except OSError as error:
        raise SettingsError(f"state folder {state} cannot be used: {error}") from error
    if is_taken:
        raise SettingsError(
            f"{state} is not empty, and a replay begins at the source state; give --state a "
            "new or empty folder"
        )
    yield state


def _model_of(message: RecordedMessage) -> str | None:
    if read_sender(message.payload) is None:
        return None
    try:
        return _model.decode(message.payload).model
    except msgspec.MsgspecError:
        return None


def _feed(
    cloud: VirtualCloud,
    replay: ReadyReplay,
    clock: Clock,
    progress: Callable[[int], object],
    outcome: CloudReplay,
) -> None:
    plan = replay.plan
    track = replay.tape.track(plan, from_ns=plan.stretch.begin_ns)
    head = Playhead(plan.stretch.begin_ns, clock.monotonic_s(), plan.speed)
    first_ns: int | None = None
    for due_ns, message in track:
        if not math.isinf(head.speed):
            clock.sleep(head.wait_s(due_ns, clock.monotonic_s()) or 0.0)
        for topic, payload in _told(message, plan, outcome):
            made = cloud.take(topic, payload, received_ns=due_ns)
            outcome.versions += [Version(one.cohort, one.version, one.result) for one in made]
        first_ns = due_ns if first_ns is None else first_ns
        outcome.messages += 1
        outcome.recorded_s = (due_ns - first_ns) / SECOND_NS
        outcome.jumps = track.jumps
        progress(due_ns)


def _told(message: RecordedMessage, plan: Plan, outcome: CloudReplay) -> list[tuple[str, bytes]]:
    """What the cloud hears: what was recorded, bad or good, if nobody has another name."""
    if not plan.changes_names:
        return [(message.topic, message.payload)]
    try:
        return [(one.topic, one.payload) for one in rewrite(message, plan.roles, salt=None)]
    except WireError as error:
        outcome.refused[str(error.code)] += 1
        return []


def _refused(cloud: VirtualCloud) -> dict[str, int]:
    counters = cloud.consumer.counters
    refused = {
        name.removeprefix("refused:"): count
        for name, count in counters.items()
        if name.startswith("refused:")
    }
    for name in ("duplicates", "not-stored"):
        if counters[name]:
            refused[name] = counters[name]
    return refused
