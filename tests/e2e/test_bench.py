"""The bench end to end: one run over memory, over amqtt and over Mosquitto is the same run."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from rich.console import Console
from tests import tiny
from tests.brokers import require_mosquitto

from driftwell.tools.bench.loop import Outcome, run_stream
from driftwell.tools.bench.plan import Plan, Scenario, Transport
from driftwell.tools.bench.runs import run_bench

ROOT = Path(__file__).resolve().parents[2]
TRANSPORTS: Final[tuple[Transport, ...]] = ("virtual", "inprocess")
SETTINGS = ("method.policy.batch=16", "method.replay.minimum=32", "method.replay.batch=16")


def _plan(folder: Path, transport: Transport, broker: str, *, seed: int = 0) -> Plan:
    return Plan(
        edge=folder / "edge",
        foundation=folder / "foundation",
        streams=(folder / "stream.npz",),
        methods=("cema",),
        transport=transport,
        broker=broker,
        pace="lockstep",
        scenario="reset",
        batch=32,
        seed=seed,
        threads=1,
        edge_assignments=("filter.e_min=0.0", "filter.e_max=1.0", "filter.warm_up_samples=64"),
        cloud_assignments=SETTINGS,
    )


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny bundles and a stream of 200 labelled images."""
    folder = tmp_path_factory.mktemp("bench")
    tiny.make_bundle(folder, "edge")
    tiny.make_bundle(folder, "foundation")
    tiny.write_stream(folder / "stream.npz", 200)
    return folder


def _run(plan: Plan, folder: Path) -> Outcome:
    folder.mkdir()
    return asyncio.run(run_stream(plan, "cema", plan.streams[0], folder))


@pytest.fixture(scope="module")
def in_process(fixtures: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The run that the others are compared with."""
    folder = tmp_path_factory.mktemp("inprocess") / "run"
    return _run(_plan(fixtures, "inprocess", ""), folder)


def test_every_selected_sample_is_settled(in_process: Outcome) -> None:
    """A lockstep run ends drained, with versions made and applied."""
    assert in_process.summary.finished
    assert in_process.summary.drained
    assert in_process.summary.counters["versions_applied"] > 0
    assert in_process.summary.books["acknowledged"] == in_process.summary.books["selected"]


@pytest.mark.integration
@pytest.mark.parametrize("broker", ["amqtt", "mosquitto"])
def test_transport_does_not_change_the_run(
    broker: str,
    fixtures: Path,
    in_process: Outcome,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Processes over a real broker give the same answers and the same version digests."""
    if broker == "mosquitto":
        require_mosquitto()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the daemons import the models from here

    outcome = _run(_plan(fixtures, "mqtt", broker), tmp_path / "run")

    assert in_process.digests == outcome.digests
    assert in_process.labels.tolist() == outcome.labels.tolist()


def test_another_seed_gives_other_versions(
    fixtures: Path, in_process: Outcome, tmp_path: Path
) -> None:
    """The replay's seed reaches the published bits."""
    outcome = _run(_plan(fixtures, "inprocess", "", seed=1), tmp_path / "run")

    assert in_process.digests != outcome.digests


@pytest.mark.parametrize("scenario", ["reset", "continual", "gradual", "correlated"])
def test_virtual_time_does_not_change_the_run(
    scenario: Scenario, fixtures: Path, tmp_path: Path
) -> None:
    """With a perfect link the daemons in lockstep give the same answers and version digests."""
    streams = tuple(tiny.write_stream(tmp_path / f"s{n}.npz", 120, seed=n) for n in (1, 2))
    plan = replace(_plan(fixtures, "inprocess", "", seed=1), scenario=scenario, streams=streams)

    virtual, live = (
        run_bench(replace(plan, transport=transport), Console(file=StringIO()))
        for transport in TRANSPORTS
    )

    assert [result.digests for result in virtual] == [result.digests for result in live]
    assert all(result.digests for result in virtual)
    assert [result.accuracy_by_domain for result in virtual] == [
        result.accuracy_by_domain for result in live
    ]
    assert [result.uploaded for result in virtual] == [result.uploaded for result in live]
    assert [r.versions_applied for r in virtual] == [r.versions_applied for r in live]


@pytest.mark.integration
def test_virtual_benches_go_on_from_their_file(
    fixtures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the command line, side by side: the second time nothing is run again."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = (
        "bench", "stream", "--edge", fixtures / "edge", "--foundation", fixtures / "foundation",
        "--stream", fixtures / "stream.npz", "--method", "none,cema", "--transport", "virtual",
        "--scenario", "recurring", "--seeds", "2", "--batch", "1", "--delay", "3", "--drop", "0.2",
        "--devices", "2", "--pooling", "cohort", "--images", "40", "--edge-set", "filter.e_max=1",
        "--cloud-set", "method.policy.batch=8", "--jobs", "2", "--out", tmp_path / "r.jsonl",
        "--format", "json",
    )  # fmt: skip

    first, second = _driftwell(*command), _driftwell(*command)

    assert first == second
    assert (tmp_path / "r.jsonl").read_bytes().count(b"\n") == 4
    rows = json.loads(first)["results"]
    assert [(row["method"], row["seed"], row["n"]) for row in rows] == [
        ("none", 0, 40), ("cema", 0, 40), ("none", 1, 40), ("cema", 1, 40)
    ]  # fmt: skip
    assert all(row["digests"] for row in rows[1::2])


@pytest.mark.data
def test_baselines_match_the_reference(data_dir: Path, tmp_path: Path) -> None:
    """On the first 512 images of contrast, `bn` is far above `none`, through the command line."""
    weights = data_dir / "weights"
    for depth, file in ((20, "cifar_resnet20"), (56, "cifar_resnet56_robust")):
        _driftwell(
            "bundle", "create", "--model", f"cifar-resnet{depth}",
            "--weights", weights / f"{file}.safetensors", "--out", tmp_path / str(depth),
        )  # fmt: skip
    with np.load(data_dir / "cifar10c" / "contrast.npz") as content:
        np.savez(tmp_path / "contrast.npz", x=content["x"][:512], y=content["y"][:512])
    printed = _driftwell(
        "bench", "stream", "--edge", tmp_path / "20", "--foundation", tmp_path / "56",
        "--stream", tmp_path / "contrast.npz", "--method", "none,bn", "--format", "json",
    )  # fmt: skip

    accuracy = {row["method"]: row["accuracy"] for row in json.loads(printed)["results"]}

    assert accuracy["none"] < 30
    assert accuracy["bn"] > 75


def _driftwell(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "driftwell.tools.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
