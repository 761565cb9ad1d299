"""`driftwell demo` as a user runs it: it ends with a report, and leaves no process behind."""

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

MISSING = [
    name for name in ("torch", "sklearn", "matplotlib") if importlib.util.find_spec(name) is None
]
PROGRAMS = 4
"""One cloud and three cameras."""
PATIENCE_S = 60.0

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(MISSING), reason=f"the demo needs {', '.join(MISSING)}"),
]


def start(cache: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """Start a demo with a short stream."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "driftwell.tools.cli", "demo",
            "--cache", str(cache), "--out", str(out), *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def wait_for_answers(out: Path, demo: subprocess.Popen[str]) -> None:
    """Wait until every camera has answered something."""
    until = time.monotonic() + PATIENCE_S
    while len([p for p in out.glob("predictions/*.jsonl") if p.stat().st_size]) < PROGRAMS - 1:
        assert demo.poll() is None, demo.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_short_demo_ends_with_a_report(cache: Path, tmp_path: Path) -> None:
    """Too short to learn much, so both verdicts will do; what is written counts."""
    with start(cache, tmp_path / "out", "--samples", "400", "--rate", "400") as demo:
        output, errors = demo.communicate(timeout=100)

    assert demo.returncode in {0, 1}, errors
    assert output.count("\n") == 1
    assert "of 3 devices recovered: fog " in output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {".driftwell-demo", "accuracy.png", "logs", "report.html"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_no_process(
    cache: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """In the middle of everything, and told twice."""
    with start(cache, tmp_path / "out", "--rate", "20") as demo:
        wait_for_answers(tmp_path / "out", demo)
        programs = psutil.Process(demo.pid).children(recursive=True)
        assert len(programs) == PROGRAMS

        demo.send_signal(number)
        time.sleep(0.05)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=20)

    assert demo.returncode == 130, errors
    assert str(tmp_path / "out") in errors
    assert [program for program in programs if program.is_running()] == []
