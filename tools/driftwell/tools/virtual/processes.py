"""Runs jobs side by side, each in a process of its own that ends with it.

Whatever becomes of one process, the others go on. If this one is interrupted, all of them
end; if it is killed, they notice and end too.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Generic, Protocol, TypeVar

from driftwell.messages.errors import DriftwellError

INTERRUPTED: Final = 130
END_S: Final = 5.0
"""How long a process may take to end when told to, before it is killed."""

Job = TypeVar("Job")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job has no value."""

    error: str


class Watcher(Protocol):
    """Is told how the jobs get on, by their place in the sequence."""

    def started(self, place: int) -> None:
        """Its process begins."""

    def came(self, place: int, done: int) -> None:
        """So much of it is done."""

    def ended(self, place: int, *, failed: bool) -> None:
        """It has a value, or failed."""


@dataclass(slots=True)
class _Running(Generic[Value]):
    place: int
    process: BaseProcess
    pipe: Connection
    answer: Value | Failure | None = None


def run_side_by_side(
    work: Callable[[Job, Callable[[int], None]], Value],
    jobs: Sequence[Job],
    *,
    at_once: int,
    watcher: Watcher,
    have: Callable[[int, Value | Failure], None] = lambda _place, _answer: None,
) -> list[Value | Failure]:
    """Run every job, at most `at_once` at the same time; what they led to, in their order.

    Args:
        work: Run in a process of its own with a job, and a function to tell what is done.
        jobs: What it is run with.
        at_once: Processes at the same time.
        watcher: Is told how they get on.
        have: Called with the place of a job and what it led to, as soon as that is known.
    """
    context = multiprocessing.get_context("spawn")
    waiting = deque(enumerate(jobs))
    running: list[_Running[Value]] = []
    answers: list[Value | Failure] = [Failure("was not run")] * len(jobs)
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                place, job = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_run, args=(work, job, theirs), daemon=True)
                process.start()
                theirs.close()  # so that its end is noticed here
                running.append(_Running(place, process, ours))
                watcher.started(place)
            ready = wait([one.pipe for one in running])
            for one in [one for one in running if one.pipe in ready]:
                if _listen(one, watcher):
                    running.remove(one)
                    answers[one.place] = answer = one.answer or _vanished(one.process)
                    have(one.place, answer)
                    watcher.ended(one.place, failed=isinstance(answer, Failure))
    finally:
        _end([one.process for one in running])
    return answers


def _listen(one: _Running[Value], watcher: Watcher) -> bool:
    """Take one message of a process; whether it has said everything."""
    try:
        said: Any = one.pipe.recv()
    except (EOFError, OSError):
        one.pipe.close()
        one.process.join()
        return True
    if isinstance(said, int):
        watcher.came(one.place, said)
    else:
        one.answer = said
    return False


def _vanished(process: BaseProcess) -> Failure:
    code = process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = "; is there too little memory? --jobs 1 needs the least" if code == -9 else ""  # noqa: PLR2004
    return Failure(f"its process {how}{hint}")


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(END_S)
        if process.is_alive():
            process.kill()
            process.join()


def _run(work: Callable[[Job, Callable[[int], None]], Value], job: Job, pipe: Connection) -> None:
    """In the new process."""
    # Control-C goes to every process of a terminal; who started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer: Value | Failure
    try:
        answer = work(job, pipe.send)
    except DriftwellError as error:
        answer = Failure(str(error))
    except Exception as error:  # noqa: BLE001  # one variant must not take the others down
        answer = Failure(f"{type(error).__name__}: {error}")
    pipe.send(answer)
    pipe.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(INTERRUPTED)
