"""`driftwell whatif` as a command: what it prints and writes, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import structlog
from tests.e2e.lockstep_run import PATIENCE_S, ROOT, Recorded, record_run
from typer.testing import CliRunner

from driftwell.tools.cli import app
from driftwell.tools.virtual.processes import Failure
from driftwell.tools.whatif import program
from driftwell.tools.whatif.results import LIVE
from driftwell.tools.whatif.results import Outcome as VariantOutcome
from driftwell.tools.whatif.variant_run import Job, run_variant
from driftwell.tools.whatif.variants import AS_RECORDED

INTERRUPTED = 130


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """One for all tests here."""
    return record_run(tmp_path_factory.mktemp("whatif"))


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "driftwell.tools.cli", "whatif", *map(str, arguments)]


def driftwell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), check=False, capture_output=True, text=True, timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def bundles(recorded: Recorded) -> list[str | Path]:
    return ["--edge", recorded.plan.edge, "--foundation", recorded.plan.foundation]


def test_the_command_prints_a_table_and_writes_json_and_html(
    recorded: Recorded, tmp_path: Path
) -> None:
    """Through real processes: the live run, the repeated one, a variant and a sweep."""
    pytest.importorskip("matplotlib")
    result = driftwell(
        recorded.path, *bundles(recorded), "--set", "method=bn", "--grid", "filter.e_max=0.2,0.4",
        "--json", tmp_path / "out.json", "--html", tmp_path / "out.html", "--jobs", "2",
    )  # fmt: skip
    assert (result.returncode, result.stderr.count(": done, ")) == (0, 4)

    report = json.loads((tmp_path / "out.json").read_text())
    html = (tmp_path / "out.html").read_text()

    names = [LIVE, AS_RECORDED, "method=bn", "filter.e_max=0.2", "filter.e_max=0.4"]
    assert [row["variant"] for row in report["results"]] == names
    assert report["reproduced"] is True
    made = [version["digest"] for version in report["results"][1]["made"]]
    assert tuple(made) == recorded.outcome.digests
    assert any(row["pareto"] for row in report["results"])
    for name in names:
        assert name in result.stdout
        assert name in html
    assert "the very versions that were recorded" in result.stdout
    assert html.count("<svg") == 3


def test_json_on_standard_output_is_json_alone(recorded: Recorded) -> None:
    """A program can read it; no report is written when none is wanted."""
    result = driftwell(
        recorded.path, *bundles(recorded), "--set", "method=none", "--limit", "40",
        "--format", "json", "--no-html",
    )  # fmt: skip

    rows = json.loads(result.stdout)["results"]

    assert [row["n"] for row in rows] == [40, 40, 40]
    assert not Path("whatif.html").exists()


def test_errors_are_one_line(recorded: Recorded, tmp_path: Path) -> None:
    """A misspelt key, a damaged file: exit code 2, and nothing is run."""
    damaged = tmp_path / "damaged.mcap"
    damaged.write_bytes(recorded.path.read_bytes()[:-2000])
    cases = [
        ([recorded.path, *bundles(recorded), "--set", "filter.e_mx=1"], "'filter.e_max'"),
        ([recorded.path, *bundles(recorded), "--format", "xml"], "--format 'xml'"),
        ([damaged, *bundles(recorded), "--no-html"], "driftwell recording recover"),
    ]
    for arguments, said in cases:
        result = driftwell(*arguments)

        assert result.returncode == 2, result.stderr
        assert said in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""


def test_help_has_an_example() -> None:
    """That shows every option that is hard to guess."""
    said = driftwell("--help").stdout

    assert "Example: driftwell whatif run.mcap" in said


def test_a_variant_that_failed_is_shown_beside_the_others(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its reason, in every form; the exit code says that something is missing."""

    def run(_work: object, jobs: Sequence[Job], **_: object) -> list[VariantOutcome | Failure]:
        return [run_variant(jobs[0], lambda _done: None), Failure("too [little] memory")]

    monkeypatch.setattr(program, "run_side_by_side", run)
    page = tmp_path / "out.html"
    before = structlog.get_config()
    result = CliRunner().invoke(
        app,
        ["whatif", str(recorded.path), *map(str, bundles(recorded)), "--set", "seed=1",
         "--html", str(page)],
    )  # fmt: skip
    structlog.configure(**before)  # the command's logs went to a stream that is closed now

    assert result.exit_code == 1
    assert "seed=1 failed: too [little] memory" in result.stdout
    assert "failed: too [little] memory" in page.read_text()
    assert AS_RECORDED in result.stdout


def test_an_interrupt_ends_every_process(recorded: Recorded, tmp_path: Path) -> None:
    """Control-C in the middle leaves nothing running, and nothing lying about."""
    values = ",".join(map(str, range(40)))
    running = subprocess.Popen(
        command(recorded.path, *bundles(recorded), "--grid", f"seed={values}", "--no-html"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    try:
        assert running.stderr is not None
        first = running.stderr.readline()  # a variant has ended, and others run
        children = until_children(running.pid)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=PATIENCE_S)
    finally:
        running.kill()
        running.communicate()

    assert "done" in first
    assert children
    assert running.returncode == INTERRUPTED
    assert [child for child in children if runs(child)] == []
    assert [path.name for path in tmp_path.iterdir()] == []


def until_children(pid: int) -> list[psutil.Process]:
    """The processes of variants, once there are any: there are none between two."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if children := [one for one in psutil.Process(pid).children() if runs(one)]:
            return children
        time.sleep(0.02)
    return []


def runs(process: psutil.Process) -> bool:
    """Whether it is a variant's process, and has not ended."""
    try:
        return "spawn_main" in " ".join(process.cmdline())  # nothing, of one that has ended
    except psutil.Error:
        return False
