"""One run of the bench, from its streams to its `Result`."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from driftwell.cloud.code_identity import software_name
from driftwell.edge.sources import read_stream
from driftwell.messages.errors import SourceError
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.tools.bench.baselines import BASELINES, Baseline
from driftwell.tools.bench.loop import run_stream
from driftwell.tools.bench.measuring import Accuracy, Answered, measure
from driftwell.tools.bench.plan import Plan, Task
from driftwell.tools.bench.results import Result
from driftwell.tools.bench.scenarios import (
    Order,
    Stream,
    count_batches,
    lined_up,
    put_in_order,
    schedule,
)
from driftwell.tools.bench.virtual_run import run_virtual

Progress = Callable[[int], None]
"""Called with the number of images that are answered."""
Ordered = tuple[Order, list[Stream]]


def run_task(task: Task, progress: Progress, folder: Path) -> Result:
    """Run it to its end; its key is not yet in the result.

    Args:
        task: What to run.
        progress: Is told how many images are answered.
        folder: Takes all state; it is there, and empty.

    Raises:
        DriftwellError: if a bundle, a stream or a daemon fails.
    """
    plan = task.plan
    torch.set_num_threads(plan.threads)
    began_s = time.monotonic()
    edge = open_bundle(plan.edge)
    streams = [read_labelled(file, edge, plan.images) for file in task.streams]
    ordered = put_in_order(plan.scenario, streams, seed=plan.seed), streams
    if task.method in BASELINES:
        result = _run_baseline(task, edge, ordered, progress)
    elif plan.transport == "virtual":
        result = _run_virtual(task, edge, ordered, progress, folder)
    else:
        result = _run_daemons(task, ordered, folder)
    return msgspec.structs.replace(result, spent_s=round(time.monotonic() - began_s, 3))


def count_images(plan: Plan) -> dict[str, int]:
    """How many images each run of a plan has, by its name; reads every stream.

    Raises:
        DriftwellError: if a stream cannot be read, or has no labels.
    """
    edge = open_bundle(plan.edge)
    counts = {file.stem: len(read_labelled(file, edge, plan.images)) for file in plan.streams}
    total = sum(counts.values())
    return {name: counts.get(name, total) for name in plan.run_names}


def read_labelled(file: Path, edge: Bundle, limit: int | None) -> Stream:
    """A labelled stream, or its first `limit` images.

    Raises:
        SourceError: if it cannot be read, or has no labels.
    """
    images, labels = read_stream(
        file, shape=edge.manifest.input.shape, classes=len(edge.manifest.classes)
    )
    if labels is None:
        raise SourceError(f"{file} has no labels 'y': its accuracy cannot be measured")
    return Stream(file.stem, images[:limit], labels[:limit])


def _run_baseline(task: Task, edge: Bundle, ordered: Ordered, progress: Progress) -> Result:
    """Each device by itself: a baseline has no cloud to share anything over."""
    order, streams = ordered
    plan = task.plan
    devices: dict[int, Baseline] = {}
    answered: list[Answered] = []
    spent_s = 0.0
    done = 0
    for one in schedule(order, streams, devices=plan.devices, batch=plan.batch):
        if one.device not in devices:
            devices[one.device] = BASELINES[task.method](edge)
        began_s = time.monotonic()
        answers = devices[one.device].answer(one.images)
        spent_s += time.monotonic() - began_s
        answered.append(Answered(one.device, one.at, answers == one.labels))
        progress(done := done + len(one.at))
    return _result(
        task, _accuracy(answered, ordered), len(order),
        uploaded=0, bytes_up=0, bytes_down=0, versions_applied=0, versions_refused=0,
        lag_s_p50=None, edge_forward_ms=1e3 * spent_s / len(answered), edge_other_ms=0.0,
    )  # fmt: skip


def _run_virtual(
    task: Task, edge: Bundle, ordered: Ordered, progress: Progress, folder: Path
) -> Result:
    outcome = run_virtual(task.plan, task.method, edge, ordered, folder, progress)
    tally = outcome.tally
    return _result(
        task, _accuracy(outcome.answered, ordered), tally.n,
        uploaded=tally.uploads, bytes_up=tally.bytes_up, bytes_down=tally.bytes_down,
        versions_applied=tally.applied, versions_refused=tally.refused,
        lag_s_p50=float(np.median(tally.lags_s)) if tally.lags_s else None,
        edge_forward_ms=1e3 * tally.forward_s / len(outcome.answered), edge_other_ms=0.0,
        digests=tuple(
            made.digest for made in sorted(tally.made, key=lambda one: (one.cohort, one.version))
        ),
        lost_up=tally.lost_up, lost_down=tally.lost_down,
    )  # fmt: skip


def _run_daemons(task: Task, ordered: Ordered, folder: Path) -> Result:
    """Give the daemons one file that holds the images in their order."""
    order, streams = ordered
    state = folder / "run"
    state.mkdir()
    file = folder / f"{task.name}.npz"
    images, labels = lined_up(order, streams, np.arange(len(order)))
    np.savez(file, x=images, y=labels)
    outcome = asyncio.run(run_stream(task.plan, task.method, file, state))
    summary = outcome.summary
    return _result(
        task, _accuracy(_as_answered(outcome.labels == labels, task.plan), ordered), len(order),
        uploaded=summary.books.get("selected", 0),
        bytes_up=summary.bytes_up, bytes_down=summary.bytes_down,
        versions_applied=summary.counters.get("versions_applied", 0),
        versions_refused=summary.counters.get("versions_refused", 0),
        lag_s_p50=summary.lag_s_p50, edge_forward_ms=summary.forward_ms,
        edge_other_ms=summary.other_ms, digests=outcome.digests,
    )  # fmt: skip


def _as_answered(is_right: NDArray[np.bool_], plan: Plan) -> list[Answered]:
    [batches] = count_batches(len(is_right), devices=1, batch=plan.batch)
    places = [
        np.arange(len(is_right))[n * plan.batch : (n + 1) * plan.batch] for n in range(batches)
    ]
    return [Answered(0, at, is_right[at]) for at in places]


def _accuracy(answered: Sequence[Answered], ordered: Ordered) -> Accuracy:
    order, streams = ordered
    return measure(answered, order, [stream.name for stream in streams])


def _result(task: Task, accuracy: Accuracy, n: int, **measured: Any) -> Result:
    plan = task.plan
    return Result(
        stream=task.name, method=task.method, seed=plan.seed, n=n,
        accuracy=accuracy.overall, accuracy_last_half=accuracy.last_half,
        accuracy_by_domain=accuracy.by_domain, software=software_name(),
        assignments=() if task.method in BASELINES else plan.assignments(task.method),
        transport=plan.transport, scenario=plan.scenario,
        batch=plan.batch, images=plan.images, devices=plan.devices, pooling=plan.pooling,
        delay=plan.delay, drop=plan.drop, budget_bytes=plan.budget_bytes, **measured,
    )  # fmt: skip
