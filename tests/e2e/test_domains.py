"""A device that comes back to a domain, over a real broker: recalled, not learned anew."""

import asyncio
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
from driftwell.tools.bench.plan import Plan
from driftwell.tools.bench.runs import run_bench

ROOT = Path(__file__).resolve().parents[2]
BATCH: Final = 32
DAY: Final = 8
"""Batches of a day, and of a night."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Day, night, day, night; what is asked of a version is only that there is one."""
    folder = tmp_path_factory.mktemp("domains")
    tiny.make_bundle(folder, "edge")
    tiny.make_bundle(folder, "foundation")
    images = tiny.make_images(4 * DAY * BATCH)
    is_night = np.arange(len(images)) // (DAY * BATCH) % 2 == 1
    images[is_night] //= 8
    labels = np.arange(len(images)) % len(tiny.CLASSES)
    np.savez(folder / "days.npz", x=images, y=labels)
    return Plan(
        edge=folder / "edge", foundation=folder / "foundation", streams=(folder / "days.npz",),
        methods=("driftwell",), transport="inprocess", broker="", pace="lockstep",
        scenario="reset", batch=BATCH, seed=0, threads=1,
        edge_assignments=("drift.block_images=32", "drift.warm_up_images=64"),
        cloud_assignments=(
            "method.policy.batch=32", "method.student.first=32", "method.student.steps=2",
            "method.versions.every=1", "method.gate.tolerance=1000", "method.gate.diversity=0",
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def in_process(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(plan, tmp_path_factory.mktemp("inprocess") / "run")


def run(plan: Plan, folder: Path) -> Outcome:
    folder.mkdir()
    return asyncio.run(run_stream(plan, "driftwell", plan.streams[0], folder))


def test_the_second_day_and_the_second_night_are_recalled(in_process: Outcome) -> None:
    """One drift, into the unknown night; then twice back to what is known. Nothing is lost."""
    counters = in_process.summary.counters

    assert (counters["drifts"], counters["recalls"]) == (1, 2)
    assert in_process.summary.drained
    books = in_process.summary.books
    assert books["acknowledged"] == books["selected"] == 4 * DAY * BATCH


@pytest.mark.integration
@pytest.mark.parametrize("broker", ["amqtt", "mosquitto"])
def test_a_real_broker_does_not_change_the_run(
    broker: str, plan: Plan, in_process: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that hear of domains over MQTT give the same answers and the same versions."""
    if broker == "mosquitto":
        require_mosquitto()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the daemons import the models from here

    outcome = run(replace(plan, transport="mqtt", broker=broker), tmp_path / "run")

    assert in_process.digests == outcome.digests
    assert in_process.labels.tolist() == outcome.labels.tolist()


def test_virtual_time_does_not_change_the_run(plan: Plan) -> None:
    """Acks that place a device come as they do live."""
    virtual, live = (
        run_bench(replace(plan, transport=transport), Console(file=StringIO()))
        for transport in ("virtual", "inprocess")
    )

    assert [result.digests for result in virtual] == [result.digests for result in live]
    assert [result.accuracy for result in virtual] == [result.accuracy for result in live]
    assert all(result.digests for result in virtual)
