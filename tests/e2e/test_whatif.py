"""`driftwell whatif` from a recorded run to its report: the same settings are the same run."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console
from tests import tiny
from tests.e2e.lockstep_run import IMAGES, Recorded, record_run

from driftwell.messages.codec import decode
from driftwell.messages.errors import DriftwellError, RecordingError, SettingsError
from driftwell.messages.stream import LABEL, StreamBatch
from driftwell.models.bundle import open_bundle
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage
from driftwell.recording.reader import Recording, address_of
from driftwell.recording.writer import RecordingWriter
from driftwell.tools.bench.baselines import BASELINES
from driftwell.tools.bench.plan import DEVICE
from driftwell.tools.whatif import program
from driftwell.tools.whatif.program import Question, answer
from driftwell.tools.whatif.results import LIVE, Report, Result
from driftwell.tools.whatif.results import Outcome as VariantOutcome
from driftwell.tools.whatif.streams import Choice
from driftwell.tools.whatif.variant_run import Job, run_variant
from driftwell.tools.whatif.variants import AS_RECORDED, read_variants

INTERRUPTED = 130


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """One for all tests here."""
    return record_run(tmp_path_factory.mktemp("whatif"))


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
