"""Runs one variant of a recording, from the file to its outcome."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driftwell.broker.connection import publish_packet_size
from driftwell.cloud.ledger import DIVERGED
from driftwell.cloud.settings import CloudSettings
from driftwell.cloud.virtual import VirtualCloud, open_virtual_cloud
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.codec import decode_on_topic
from driftwell.messages.errors import WireError
from driftwell.messages.samples import SampleBatch
from driftwell.messages.topics import ROUTES, Kind
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.recording.batches import Cutter
from driftwell.recording.reader import Recording
from driftwell.tools.bench.baselines import BASELINES, Baseline
from driftwell.tools.virtual.part import Run
from driftwell.tools.virtual.rig import Rig, head_packet, made
from driftwell.tools.virtual.tally import Tally
from driftwell.tools.whatif.measuring import measure
from driftwell.tools.whatif.results import Outcome
from driftwell.tools.whatif.streams import Choice, read_parts
from driftwell.tools.whatif.variants import Variant

REJECTED: Final = "rejected:"

Progress = Callable[[int], None]
"""Called with the number of recorded messages that are done."""


@dataclass(frozen=True, slots=True)
class Job:
    """One variant, with everything it needs."""

    variant: Variant
    choice: Choice
    edge: Path
    foundation: Path
    edges: Mapping[str, EdgeSettings]
    """By device; empty where the recording holds no raw streams."""
    cloud: CloudSettings
    batches: Mapping[Run, int]
    """How many recorded batches each run of a device has."""
    folder: Path
    """For the cloud's state; it is there, and empty."""


def run_variant(job: Job, progress: Progress) -> Outcome:
    """Run it to its end.

    Raises:
        DriftwellError: what is wrong with the recording or a bundle.
    """
    edge = open_bundle(job.edge)
    if job.variant.baseline is not None:
        return _run_baseline(job, edge, job.variant.baseline, progress)
    with open_virtual_cloud(
        job.cloud,
        job.folder,
        edge=edge,
        foundation=open_bundle(job.foundation),
        monotonic_s=time.monotonic,
    ) as cloud:
        tally = (
            _run_streams(job, edge, cloud, progress)
            if job.edges
            else _run_uploads(job, cloud, progress)
        )
        known: dict[str, float | None] = {"training_s": cloud.training_s, **_fates(cloud)}
        if not job.edges:
            known |= {"applied": None, "refused": None}
        return measure(tally, job.variant.name, **known)


def _run_streams(job: Job, edge: Bundle, cloud: VirtualCloud, progress: Progress) -> Tally:
    rig = Rig(cloud, edge, job.edges, job.batches, recuts=job.variant.recuts)
    for done, part in enumerate(read_parts(job.choice), 1):
        rig.take(part)
        progress(done)
    return rig.tally


def _run_baseline(job: Job, edge: Bundle, name: str, progress: Progress) -> Outcome:
    tally = Tally()
    left = dict(job.batches)
    running: dict[Run, tuple[Baseline, Cutter]] = {}
    for done, part in enumerate(read_parts(job.choice), 1):
        if part.run not in running:
            size = job.edges[part.run[0]].batch if job.variant.recuts else None
            running[part.run] = BASELINES[name](edge), Cutter(size)
        baseline, cutter = running[part.run]
        tally.begin(part.time_ns)
        left[part.run] -= 1
        batches = [*cutter.add(part.batch()), *(cutter.rest() if left[part.run] == 0 else ())]
        for batch in batches:
            tally.answer(baseline.answer(batch.images), batch.labels)
        tally.upload(0, part.time_ns)
        progress(done)
    return measure(tally, job.variant.name)


def _run_uploads(job: Job, cloud: VirtualCloud, progress: Progress) -> Tally:
    """Learn from the recorded uploads: all there is where no raw stream was recorded."""
    tally = Tally()
    seen: set[tuple[str, str, int]] = set()
    with Recording(job.choice.path) as recording:
        wanted = recording.messages(job.choice.selection(Kind.SAMPLES, Kind.STATE))
        for done, recorded in enumerate(wanted, 1):
            tally.begin(recorded.received_ns)
            versions = cloud.take(
                recorded.topic, recorded.payload, received_ns=recorded.received_ns
            )
            for version in versions:
                tally.made.append(made(version))
                for device in cloud.consumer.cohorts[version.cohort].members:
                    packet = head_packet(cloud, device, version)
                    if packet is not None:
                        tally.bytes_down += publish_packet_size(*packet, ROUTES[Kind.HEAD].qos)
            batch = read_upload(recorded.topic, recorded.payload, job.cloud.message_limit_bytes)
            if batch is not None:
                name = batch.device, batch.session, batch.seq
                tally.upload(0 if name in seen else batch.count, recorded.received_ns)
                seen.add(name)
                tally.bytes_up += publish_packet_size(
                    recorded.topic, recorded.payload, ROUTES[Kind.SAMPLES].qos
                )
            progress(done)
    return tally


def read_upload(topic: str, payload: bytes, limit_bytes: int) -> SampleBatch | None:
    """A recorded message as a sample batch; None if it is not one, or cannot be used."""
    try:
        _, message = decode_on_topic(topic, payload, limit_bytes=limit_bytes)
    except WireError:
        return None
    return message if isinstance(message, SampleBatch) else None


def _fates(cloud: VirtualCloud) -> dict[str, int]:
    """What became of the uploaded images, over all devices."""
    books: Counter[str] = Counter()
    for entries in cloud.consumer.ledger.books().values():
        books.update(entries)
    refused = sum(n for entry, n in books.items() if entry.startswith(REJECTED))
    return {
        "diverged": books[DIVERGED],
        "expired": books["expired"],
        "rejected": refused - books[DIVERGED],
        "waiting": books["pending"],
    }
