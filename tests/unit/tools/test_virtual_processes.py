"""Jobs side by side: each in its process, and none takes another down."""

import os
import signal
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from driftwell.messages.errors import RecordingError
from driftwell.tools.virtual.processes import Failure, run_side_by_side


class Notes:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int, int]] = []
        self.begun = threading.Event()

    def started(self, place: int) -> None:
        self.said.append(("started", place, 0))

    def came(self, place: int, done: int) -> None:
        self.said.append(("came", place, done))
        self.begun.set()

    def ended(self, place: int, *, failed: bool) -> None:
        self.said.append(("failed" if failed else "done", place, 0))


def square(job: int, progress: Callable[[int], None]) -> tuple[int, int]:
    """What the processes of these tests do; the job says what becomes of it."""
    progress(job)
    match job:
        case 13:
            raise RecordingError("unlucky")
        case 14:
            raise KeyError("x")
        case 15:
            os.kill(os.getpid(), signal.SIGKILL)
        case 16:
            os._exit(3)
        case 17:
            time.sleep(60)
        case _:
            pass
    return job * job, os.getpid()


def test_an_answer_is_there_before_the_others_are() -> None:
    """So that it can be kept while the rest goes on; a failure is told, too."""
    notes = Notes()
    had: list[tuple[int, bool, int]] = []

    def have(place: int, answer: tuple[int, int] | Failure) -> None:
        begun = len([one for one in notes.said if one[0] == "started"])
        had.append((place, isinstance(answer, Failure), begun))

    run_side_by_side(square, [3, 13, 2], at_once=1, watcher=notes, have=have)

    assert had == [(0, False, 1), (1, True, 2), (2, False, 3)]


def test_every_job_has_its_answer_in_its_place() -> None:
    """However many run at the same time, and each in a process of its own."""
    notes = Notes()

    answers = run_side_by_side(square, [3, 1, 2], at_once=2, watcher=notes)

    values = [answer[0] for answer in answers if not isinstance(answer, Failure)]
    processes = {answer[1] for answer in answers if not isinstance(answer, Failure)}
    assert values == [9, 1, 4]
    assert len(processes | {os.getpid()}) == 4
    assert {("came", 0, 3), ("came", 1, 1), ("came", 2, 2)} <= set(notes.said)
    assert notes.said.index(("started", 2, 0)) > notes.said.index(("started", 1, 0)) + 1


def test_whatever_becomes_of_one_the_others_go_on() -> None:
    """An error of ours, another one, a killed process, one that left: each says what happened."""
    notes = Notes()

    answers = run_side_by_side(square, [13, 14, 15, 16, 2], at_once=2, watcher=notes)

    errors = [answer.error for answer in answers if isinstance(answer, Failure)]
    assert errors[:2] == ["unlucky", "KeyError: 'x'"]
    assert "killed by signal 9" in errors[2]
    assert "--jobs 1" in errors[2]
    assert "ended with code 3" in errors[3]
    assert isinstance(answers[4], tuple)
    assert ("failed", 2, 0) in notes.said
    assert ("done", 4, 0) in notes.said


def test_an_interrupt_ends_all_of_them() -> None:
    """Nothing runs on when the one who asked is gone."""
    notes = Notes()

    def interrupt() -> None:
        notes.begun.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(square, [17, 17], at_once=2, watcher=notes)
    thread.join()

    assert [child for child in psutil.Process().children() if _works(child)] == []


def _works(process: psutil.Process) -> bool:
    """Whether it is one of ours; the resource tracker of multiprocessing stays."""
    return any("spawn_main" in part for part in process.cmdline())
