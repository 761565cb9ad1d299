"""`driftwell whatif` from a recorded run to its report: the same settings are the same run."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import structlog
from rich.console import Console
from tests import tiny
from typer.testing import CliRunner

from driftwell.messages.codec import decode
from driftwell.messages.errors import DriftwellError, RecordingError, SettingsError
from driftwell.messages.stream import LABEL, StreamBatch
from driftwell.models.bundle import open_bundle
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage
from driftwell.recording.reader import Recording, address_of
from driftwell.recording.writer import RecordingWriter
from driftwell.tools.bench.baselines import BASELINES
from driftwell.tools.bench.loop import Outcome, run_stream
from driftwell.tools.bench.plan import DEVICE, Plan
from driftwell.tools.cli import app
from driftwell.tools.whatif import program
from driftwell.tools.whatif.processes import Failure
from driftwell.tools.whatif.program import Question, answer
from driftwell.tools.whatif.results import LIVE, Report, Result
from driftwell.tools.whatif.results import Outcome as VariantOutcome
from driftwell.tools.whatif.streams import Choice
from driftwell.tools.whatif.variant_run import Job, run_variant
from driftwell.tools.whatif.variants import AS_RECORDED, read_variants

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 200
PATIENCE_S = 60.0
INTERRUPTED = 130


@dataclass(frozen=True)
class Recorded:
    """A live run in lockstep, and its recording."""

    folder: Path
    plan: Plan
    outcome: Outcome

    @property
    def path(self) -> Path:
        return self.folder / "run.mcap"

    def live(self, folder: Path, **changes: object) -> Outcome:
        """The same run live once more, with changes to its plan."""
        plan = replace(self.plan, record=None, **changes)  # type: ignore[arg-type]
        folder.mkdir()
        return asyncio.run(run_stream(plan, "cema", plan.streams[0], folder))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two tiny bundles, a stream of labelled images, one live run of it."""
    folder = tmp_path_factory.mktemp("whatif")
    tiny.make_bundle(folder, "edge")
    tiny.make_bundle(folder, "foundation")
    plan = Plan(
        edge=folder / "edge",
        foundation=folder / "foundation",
        streams=(tiny.write_stream(folder / "stream.npz", IMAGES),),
        methods=("cema",),
        transport="inprocess",
        broker="",
        pace="lockstep",
        protocol="reset",
        batch=32,
        seed=0,
        threads=1,
        edge_assignments=("filter.e_min=0.1", "filter.e_max=0.9", "filter.warm_up_samples=64"),
        cloud_assignments=(
            "method.policy.batch=16", "method.replay.minimum=32", "method.replay.batch=16",
        ),
        record=folder / "run.mcap",
    )  # fmt: skip
    (folder / "run").mkdir()
    outcome = asyncio.run(run_stream(plan, "cema", plan.streams[0], folder / "run"))
    return Recorded(folder, plan, outcome)


def ask(
    recorded: Recorded, *sets: str, grids: Sequence[str] = (), choice: Choice | None = None
) -> Report:
    """What the command asks and reports."""
    question = Question(
        choice=choice or Choice(recorded.path),
        edge=recorded.plan.edge,
        foundation=recorded.plan.foundation,
        variants=read_variants(sets, grids),
        jobs=2,
    )
    report, _ = answer(question, Console(quiet=True))
    return report


def named(report: Report) -> dict[str, Result]:
    assert [result.error for result in report.results] == [""] * len(report.results)
    return {result.variant: result for result in report.results}


def digests(result: Result) -> tuple[str, ...]:
    return tuple(version.digest for version in result.made)


@pytest.fixture(scope="module")
def report(recorded: Recorded) -> Report:
    """Four variants beside the recorded settings."""
    return ask(recorded, "batch=32", "seed=1", "filter.e_max=0.5,batch=20", "method=none")


def test_the_recorded_settings_give_the_recorded_run(recorded: Recorded, report: Report) -> None:
    """The same versions bit for bit, the same answers, uploads and bytes as live."""
    rows = named(report)
    live, again = rows[LIVE], rows[AS_RECORDED]

    assert digests(again) == recorded.outcome.digests
    assert len(again.made) > 3
    assert report.reproduced is True
    for name in (
        "n", "labelled", "accuracy", "uploads", "bytes_up", "bytes_down", "versions", "applied",
        "refused", "made",
    ):  # fmt: skip
        assert (name, getattr(live, name)) == (name, getattr(again, name))
    assert again.uploads == recorded.outcome.summary.books["selected"]
    assert again.applied == recorded.outcome.summary.counters["versions_applied"]
    assert again.waiting == 0


def test_cutting_the_batches_as_they_were_changes_nothing(report: Report) -> None:
    """A batch is its images, wherever the recorded one ended."""
    rows = named(report)

    assert rows["batch=32"].made == rows[AS_RECORDED].made


def test_other_settings_give_what_they_would_have_given_live(
    recorded: Recorded, report: Report, tmp_path: Path
) -> None:
    """A seed of the cloud; a filter and batches of the edge."""
    rows = named(report)

    live = recorded.live(tmp_path / "seed", seed=1)
    assert digests(rows["seed=1"]) == live.digests != recorded.outcome.digests
    assignments = (*recorded.plan.edge_assignments, "filter.e_max=0.5")
    live = recorded.live(tmp_path / "edge", edge_assignments=assignments, batch=20)
    assert digests(rows["filter.e_max=0.5,batch=20"]) == live.digests


def test_a_baseline_answers_alone(recorded: Recorded, report: Report) -> None:
    """`none` is the source model on the very images, and costs no byte."""
    row = named(report)["method=none"]
    with np.load(recorded.plan.streams[0]) as content:
        answers = BASELINES["none"](open_bundle(recorded.plan.edge)).answer(content["x"])
        accuracy = 100 * float(np.mean(answers == content["y"]))

    assert row.accuracy == pytest.approx(accuracy, abs=0.001)
    assert (row.n, row.uploads, row.bytes_up, row.bytes_down, row.made) == (IMAGES, 0, 0, 0, ())
    assert row.expired is None


@pytest.fixture
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run variants in this process: another one takes seconds to begin."""

    def run(_work: object, jobs: Sequence[Job], **_: object) -> list[VariantOutcome]:
        return [run_variant(job, lambda _done: None) for job in jobs]

    monkeypatch.setattr(program, "run_side_by_side", run)


def rewrite(recorded: Recorded, path: Path, *, streams: bool = True, labels: bool = True) -> Path:
    """The recording without a part of it."""
    with (
        Recording(recorded.path) as source,
        RecordingWriter(path, software="test", clock_s=time.monotonic) as writer,
    ):
        for name, text in source.documents().items():
            writer.add_document(name, text)
        for message in source.messages():
            address = address_of(message.topic)
            if address is None or address.kind != "stream":
                writer.write(message)
            elif streams:
                writer.write(message if labels else _unlabelled(message))
    return path


def _unlabelled(message: RecordedMessage) -> RecordedMessage:
    batch = decode(message.payload, limit_bytes=MAX_MESSAGE)
    assert isinstance(batch, StreamBatch)
    bare = tuple(column for column in batch.columns if column.name != LABEL)
    payload = msgspec.msgpack.encode(msgspec.structs.replace(batch, columns=bare))
    return replace(message, payload=payload)


@pytest.mark.usefixtures("_at_home")
def test_uploads_alone_can_be_learned_from_again(recorded: Recorded, tmp_path: Path) -> None:
    """A recording made at the broker gives the same versions, and no accuracy."""
    path = rewrite(recorded, tmp_path / "wire.mcap", streams=False)

    report = ask(recorded, "seed=1", choice=Choice(path))
    rows = named(report)

    assert digests(rows[AS_RECORDED]) == recorded.outcome.digests
    assert report.reproduced is True
    assert digests(rows["seed=1"]) != recorded.outcome.digests
    assert (rows[AS_RECORDED].n, rows[AS_RECORDED].accuracy) == (0, None)
    for name in ("uploads", "bytes_up", "versions"):
        assert (name, getattr(rows[LIVE], name)) == (name, getattr(rows[AS_RECORDED], name))


@pytest.mark.parametrize("wish", ["filter.e_max=0.3", "method=eta"])
def test_without_raw_streams_a_device_cannot_be_changed(
    wish: str, recorded: Recorded, tmp_path: Path
) -> None:
    """The error says how to record what is missing."""
    path = rewrite(recorded, tmp_path / "wire.mcap", streams=False)

    with pytest.raises(SettingsError, match=r"edge run --record"):
        ask(recorded, wish, choice=Choice(path))


@pytest.mark.usefixtures("_at_home")
def test_streams_without_labels_have_no_accuracy(recorded: Recorded, tmp_path: Path) -> None:
    """Everything else is known, and the versions are the same."""
    path = rewrite(recorded, tmp_path / "bare.mcap", labels=False)

    rows = named(ask(recorded, choice=Choice(path)))

    assert digests(rows[AS_RECORDED]) == recorded.outcome.digests
    assert (rows[LIVE].accuracy, rows[AS_RECORDED].accuracy) == (None, None)
    assert (rows[AS_RECORDED].n, rows[AS_RECORDED].labelled) == (IMAGES, 0)


@pytest.mark.usefixtures("_at_home")
def test_a_limit_counts_images(recorded: Recorded) -> None:
    """Also in the middle of a batch; what the wire says of the whole run is not shown then."""
    rows = named(ask(recorded, choice=Choice(recorded.path, (DEVICE,), 50)))

    assert (rows[LIVE].n, rows[AS_RECORDED].n) == (50, 50)
    assert (rows[LIVE].bytes_up, rows[LIVE].versions) == (None, None)


def test_a_foreign_bundle_is_refused(recorded: Recorded, tmp_path: Path) -> None:
    """It is not what the devices ran."""
    other = tiny.make_bundle(tmp_path, "edge", seed=7).path
    plan = replace(recorded.plan, edge=other)

    with pytest.raises(SettingsError, match="give --edge the bundle that the devices ran"):
        ask(replace(recorded, plan=plan))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Choice(Path("nowhere.mcap")), "nowhere.mcap cannot be read"),
        (Choice(Path("run.mcap"), ("cam-9",)), "nothing to run again of cam-9"),
    ],
)
def test_what_is_not_there_is_named(choice: Choice, said: str, recorded: Recorded) -> None:
    """A file, a device."""
    choice = replace(choice, path=recorded.folder / choice.path)

    with pytest.raises(DriftwellError, match=said):
        ask(recorded, choice=choice)


def test_a_recording_of_nothing_to_repeat_is_refused(recorded: Recorded, tmp_path: Path) -> None:
    """Neither streams nor uploads: the error says how to record them."""
    path = tmp_path / "empty.mcap"
    RecordingWriter(path, software="test", clock_s=time.monotonic).close()

    with pytest.raises(RecordingError, match="nothing to run again"):
        ask(recorded, choice=Choice(path))


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
