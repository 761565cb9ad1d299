"""The bench itself: every run of a plan, one after the other or side by side."""

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog
from rich.console import Console

from driftwell.messages.errors import BrokerError
from driftwell.tools.bench.plan import Plan, Task, tasks_of
from driftwell.tools.bench.progress import Lines
from driftwell.tools.bench.results import Result
from driftwell.tools.bench.results_file import ResultsFile
from driftwell.tools.bench.run_settings import Keys
from driftwell.tools.bench.stream import Progress, count_images, run_task
from driftwell.tools.virtual.processes import Failure, run_side_by_side

TELL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Job:
    """A run, its key, and its place among all runs."""

    place: int
    task: Task
    key: str
    scratch: Path
    """Of the whole bench, which clears it away even if the run's process is killed."""


def run_bench(
    plan: Plan, console: Console, *, out: ResultsFile[Result] | None = None, jobs: int = 1
) -> list[Result]:
    """Make every run of a plan that is not yet in the file; the results of all.

    Args:
        plan: What to measure.
        console: For the progress.
        out: Takes each result as it comes; None: no file.
        jobs: How many runs at the same time, each in a process of its own if it is over 1.

    Raises:
        DriftwellError: if a bundle, a stream or a daemon fails. With several processes the other
            runs are finished first.
    """
    tasks = tasks_of(plan)
    keys = Keys()
    named = [(task, keys.key_of(task)) for task in tasks]
    sizes = count_images(plan)
    results: dict[int, Result] = {}
    with (
        tempfile.TemporaryDirectory(prefix="driftwell-bench-") as scratch,
        Lines(console, tasks, [sizes[task.name] for task in tasks], jobs) as lines,
    ):
        left = []
        for place, (task, key) in enumerate(named):
            if out is not None and key in out.known:
                results[place] = out.known[key]
                lines.skipped(place, out.known[key])
            else:
                left.append(_Job(place, task, key, Path(scratch)))

        def keep(place: int, result: Result) -> None:
            results[place] = result
            if out is not None:
                out.add(result)
            lines.has(place, result)

        if jobs == 1:
            _run_in_turn(left, lines, keep)
        else:
            _run_side_by_side(left, lines, keep, jobs)
    return [results[place] for place in range(len(tasks))]


def run_job(job: _Job, progress: Progress) -> Result:
    """Run one; its key is in the result."""
    with tempfile.TemporaryDirectory(dir=job.scratch) as folder:
        result = run_task(job.task, _seldom(progress), Path(folder))
    return msgspec.structs.replace(result, key=job.key)


def run_in_process(job: _Job, progress: Progress) -> Result:
    """Run one in a process of its own, with no log in the way of the lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return run_job(job, progress)


Keep = Callable[[int, Result], None]


def _run_in_turn(left: Sequence[_Job], lines: Lines, keep: Keep) -> None:
    for job in left:
        lines.started(job.place)
        keep(job.place, run_job(job, partial(lines.came, job.place)))
        lines.ended(job.place, failed=False)


def _run_side_by_side(left: Sequence[_Job], lines: Lines, keep: Keep, jobs: int) -> None:
    def have(at: int, answer: Result | Failure) -> None:
        if not isinstance(answer, Failure):
            keep(left[at].place, answer)

    answers = run_side_by_side(
        run_in_process, left, at_once=jobs,
        watcher=_Places(lines, [job.place for job in left]), have=have,
    )  # fmt: skip
    failed = [
        f"{job.task.name}, {job.task.method}, seed {job.task.plan.seed}: {answer.error}"
        for job, answer in zip(left, answers, strict=True)
        if isinstance(answer, Failure)
    ]
    if failed:
        raise BrokerError(f"{len(failed)} of {len(left)} runs failed:\n" + "\n".join(failed))


@dataclass(frozen=True, slots=True)
class _Places:
    """Tells of jobs by their place among all runs, not among those that are left."""

    lines: Lines
    places: Sequence[int]

    def started(self, place: int) -> None:
        self.lines.started(self.places[place])

    def came(self, place: int, done: int) -> None:
        self.lines.came(self.places[place], done)

    def ended(self, place: int, *, failed: bool) -> None:
        self.lines.ended(self.places[place], failed=failed)


def _seldom(progress: Progress) -> Progress:
    """Pass on what is done every half second at most."""
    told_s = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told_s
        if time.monotonic() - told_s > TELL_S:
            told_s = time.monotonic()
            progress(done)

    return tell
