"""The bench end to end: one run over memory, over amqtt and over Mosquitto is the same run."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from driftwell.broker.mosquitto_process import find_mosquitto
from driftwell.tools.bench.loop import Outcome, run_stream
from driftwell.tools.bench.plan import Plan, Transport

ROOT = Path(__file__).resolve().parents[2]
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
        protocol="reset",
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
    if broker == "mosquitto" and find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed: apt-get install mosquitto")
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
