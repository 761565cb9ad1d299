"""Tells how a bench gets on: a line for each run when it ends, and one that moves meanwhile."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

from driftwell.tools.bench.plan import Task
from driftwell.tools.bench.results import Result

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0


class Lines:
    """One line a run on standard error; on a terminal also one that says what runs now."""

    def __init__(self, console: Console, tasks: Sequence[Task], sizes: Sequence[int],
                 jobs: int) -> None:  # fmt: skip
        """Sizes: how many images each run has."""
        self._console = console
        self._tasks = tasks
        self._sizes = sizes
        self._jobs = jobs
        self._spent_s: list[tuple[str, float]] = []
        self._ended: set[int] = set()
        self._running: dict[int, int] = {}
        self._status: Status | None = None

    def skipped(self, place: int, result: Result) -> None:
        """Its result is in the file."""
        self._ended.add(place)
        self._say(f"{self._line(place)} {result.accuracy:.2f} % (was there)")

    def started(self, place: int) -> None:
        """It runs."""
        self._running[place] = 0
        self._show()

    def came(self, place: int, done: int) -> None:
        """So many of its images are answered."""
        self._running[place] = done
        self._show()

    def has(self, place: int, result: Result) -> None:
        """It has a result."""
        method = self._tasks[place].method
        self._spent_s.append((method, result.spent_s))
        self._ended.add(place)
        waiting = [t.method for n, t in enumerate(self._tasks) if n not in self._ended]
        left = (
            f", {spoken(time_left_s(self._spent_s, waiting, self._jobs))} left" if waiting else ""
        )
        self._say(f"{self._line(place)} {result.accuracy:.2f} % ({result.spent_s:.1f} s{left})")

    def ended(self, place: int, *, failed: bool) -> None:
        """It is over."""
        self._ended.add(place)
        self._running.pop(place, None)
        if failed:
            self._say(f"{self._line(place)} failed")
        self._show()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def _line(self, place: int) -> str:
        task = self._tasks[place]
        count = f"[{len(self._ended)}/{len(self._tasks)}]"
        return f"{count} {task.name}: {task.method} seed {task.plan.seed} …"

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _show(self) -> None:
        if self._status is None:
            return
        running = []
        for place, done in self._running.items():
            task, size = self._tasks[place], self._sizes[place]
            share = f" {100 * done / size:.0f} %" if done else ""
            running.append(f"{task.name}: {task.method} seed {task.plan.seed}{share}")
        self._status.update(Text("; ".join(running)))


def time_left_s(spent_s: Sequence[tuple[str, float]], waiting: Sequence[str], jobs: int) -> float:
    """Seconds until the waiting runs are done.

    Args:
        spent_s: Method and seconds of each run that is done, one or more.
        waiting: The methods of the others; one that has not run yet is taken for an average one.
        jobs: How many run at the same time.
    """
    by_method: Mapping[str, list[float]] = {method: [] for method, _ in spent_s}
    for method, seconds in spent_s:
        by_method[method].append(seconds)
    average = fmean(seconds for _, seconds in spent_s)
    total = sum(fmean(by_method[one]) if one in by_method else average for one in waiting)
    return total / max(1, min(jobs, len(waiting)))


def spoken(seconds: float) -> str:
    """Seconds in the unit a person would choose."""
    if seconds < MINUTE_S:
        return f"about {seconds:.0f} s"
    if seconds < HOUR_S:
        return f"about {seconds / MINUTE_S:.0f} min"
    return f"about {seconds / HOUR_S:.1f} h"
