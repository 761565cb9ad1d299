"""One run of the bench in virtual time: no daemons, no network, the same every time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from driftwell.cloud.virtual import open_virtual_cloud
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.recording.batches import Batch
from driftwell.tools.bench.measuring import Answered
from driftwell.tools.bench.plan import Plan
from driftwell.tools.bench.run_settings import cloud_settings, edge_settings
from driftwell.tools.bench.scenarios import Order, Scheduled, Stream, count_batches, schedule
from driftwell.tools.virtual.link import LinkSettings
from driftwell.tools.virtual.part import Run
from driftwell.tools.virtual.rig import Rig
from driftwell.tools.virtual.tally import Tally

SESSION = "b" * 16


@dataclass(frozen=True, slots=True)
class _Part:
    """A scheduled batch as a rig takes it."""

    scheduled: Scheduled
    run: Run

    @property
    def time_ns(self) -> int:
        return self.scheduled.time_ns

    def batch(self) -> Batch:
        one = self.scheduled
        return Batch(one.images, one.at.astype(np.uint64), one.labels)


@dataclass(slots=True)
class VirtualOutcome:
    """What became of a run."""

    tally: Tally
    answered: list[Answered] = field(default_factory=list)


def run_virtual(
    plan: Plan,
    method: str,
    edge: Bundle,
    ordered: tuple[Order, Sequence[Stream]],
    folder: Path,
    progress: Callable[[int], None],
) -> VirtualOutcome:
    """Run one method; `folder` is empty and holds the cloud's state.

    Args:
        plan: With the run's own seed.
        method: One that has a cloud.
        edge: The bundle the devices run.
        ordered: The images, and the order in which they come.
        folder: For the cloud.
        progress: Called with the number of images answered.

    Raises:
        DriftwellError: if a setting is wrong, or the bundles do not fit each other.
    """
    order, streams = ordered
    names = plan.device_names
    counts = count_batches(len(order), devices=plan.devices, batch=plan.batch)
    with open_virtual_cloud(
        cloud_settings(plan, method),
        folder,
        edge=edge,
        foundation=open_bundle(plan.foundation),
        monotonic_s=time.monotonic,
    ) as cloud:
        rig = Rig(
            cloud,
            edge,
            {name: edge_settings(plan, method, device=name) for name in names},
            {(name, SESSION): count for name, count in zip(names, counts, strict=True) if count},
            recuts=False,
            link=LinkSettings(plan.delay, plan.drop, plan.seed),
            monotonic_s=time.monotonic,
        )
        outcome = VirtualOutcome(rig.tally)
        done = 0
        for one in schedule(order, streams, devices=plan.devices, batch=plan.batch):
            answers = rig.take(_Part(one, (names[one.device], SESSION)))
            outcome.answered.append(Answered(one.device, one.at, answers == one.labels))
            progress(done := done + len(one.at))
        return outcome
