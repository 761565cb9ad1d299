"""Devices with a modular model over real brokers: limits that change, and what they learn.

Cloud and device are processes of their own. What is looked at is what an operator would look at:
their logs, the answers, and `driftwell modular log`.
"""

import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import tiny, tiny_modular
from tests.brokers import eventually
from tests.programs import COMMAND, LIMIT_S, ROOT, Program, open_broker

from driftwell.models.modular.writing import write_device_copy

pytestmark = pytest.mark.integration

RATE = 100  # images a second
BATCH = 20
IMAGES = 30_000
"""More than are answered before the test is over."""


class Fleet:
    """A cloud with a modular model, and one device."""

    def __init__(
        self, folder: Path, port: int, *settings: str, cloud: Sequence[str], classes: int
    ) -> None:
        url = f"mqtt://127.0.0.1:{port}"
        whole = tiny_modular.make_modular(folder)
        copy = write_device_copy(whole, folder / "copy").path
        foundation = tiny.make_bundle(folder, "foundation").path
        stream = tiny.write_stream(folder / "stream.npz", IMAGES, classes=classes)
        self.limits_file = folder / "limits.toml"
        self.state = folder / "cloud"
        self.predictions = folder / "predictions.jsonl"
        self._logs = {name: folder / f"{name}.log" for name in ("edge", "cloud")}
        self.edge = Program(
            self._logs["edge"], "--log-json",
            *("edge", "run", "--bundle", str(copy), "--source", f"npz:{stream}"),
            *("--device", "cam-1", "--broker", url, "--state", str(folder / "cam-1")),
            *("--batch", str(BATCH), "--pace", f"rate:{RATE}"),
            *("--predictions", str(self.predictions)),
            *("--set", f"limits_file={self.limits_file}", "--set", "telemetry_every_s=1"),
            *settings,
        )  # fmt: skip
        self.cloud = Program(
            self._logs["cloud"], "--log-json",
            *("cloud", "run", "--foundation", str(foundation), "--edge", str(whole.path)),
            *("--broker", url, "--state", str(self.state), "--threads", "1"),
            *("--set", "modules.fleet.replan.patience_s=2", "--set", "modules.fleet.refresh_s=1"),
            *cloud,
        )  # fmt: skip

    def limit(self, memory_bytes: int) -> None:
        """Write another limit of memory, whole or not at all."""
        staging = self.limits_file.with_suffix(".new")
        staging.write_text(f"memory_bytes = {memory_bytes}\n", encoding="utf-8")
        staging.replace(self.limits_file)

    def told(self, name: str, event: str) -> list[dict[str, Any]]:
        """What a program logged of an event."""
        lines = self._logs[name].read_text(errors="replace").splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    def applied(self) -> list[dict[str, Any]]:
        """The sub-models that the device switched to."""
        return self.told("edge", "submodel.applied")

    def derived(self) -> list[dict[str, Any]]:
        return self.told("cloud", "submodel.derived")

    def answered(self) -> list[int]:
        """Which images were answered, in order."""
        return [one["index"] for one in self._answers()]

    def labels(self) -> list[int]:
        """What they were taken for."""
        return [one["label"] for one in self._answers()]

    def _answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.predictions.read_text().splitlines()]

    def log(self) -> str:
        """What `driftwell modular log` says."""
        shown = subprocess.run(
            [*COMMAND, "modular", "log", "--state", str(self.state)],
            capture_output=True, text=True, check=True, cwd=ROOT, timeout=LIMIT_S,
        )  # fmt: skip
        return shown.stdout


@asynccontextmanager
async def open_fleet(
    broker_name: str,
    folder: Path,
    *settings: str,
    cloud: Sequence[str] = (),
    classes: int = len(tiny.CLASSES),
) -> AsyncIterator[Fleet]:
    async with open_broker(broker_name, folder) as broker:
        fleet = Fleet(folder, broker.port, *settings, cloud=cloud, classes=classes)
        fleet.limit(10**9)
        await fleet.cloud.start()
        await fleet.edge.start()
        try:
            yield fleet
        finally:
            edge_code = await fleet.edge.end(signal.SIGTERM)
            cloud_code = await fleet.cloud.end(signal.SIGTERM)
        assert (edge_code, cloud_code) == (0, 0), fleet.edge.log + fleet.cloud.log


@pytest.mark.parametrize("broker_name", ["embedded", "mosquitto"])
async def test_a_halved_limit_is_heeded_and_taken_back(tmp_path: Path, broker_name: str) -> None:
    """Within 10 s it runs a smaller sub-model, later the larger one again, for no byte more."""
    async with open_fleet(broker_name, tmp_path) as fleet:
        await eventually(lambda: len(fleet.derived()) == 1, LIMIT_S)
        whole = fleet.derived()[0]["memory_bytes"]
        fleet.limit(int(1.6 * whole))
        await eventually(lambda: len(fleet.applied()) == 1, LIMIT_S)

        halved_s = time.monotonic()
        fleet.limit(int(0.8 * whole))
        await eventually(lambda: len(fleet.derived()) == 2, LIMIT_S)
        await eventually(lambda: fleet.applied()[-1]["version"] == 2, LIMIT_S)
        took_s = time.monotonic() - halved_s

        before_bytes = fleet.applied()[-1]["fetched_bytes"]
        fleet.limit(int(1.6 * whole))
        await eventually(lambda: fleet.applied()[-1]["version"] not in (0, 2), LIMIT_S)
        answered = fleet.answered()

    assert took_s < 10
    assert fleet.derived()[1]["memory_bytes"] <= 0.8 * whole
    assert fleet.derived()[1]["modules"] < fleet.derived()[0]["modules"]
    assert fleet.applied()[-1]["fetched_bytes"] == before_bytes
    assert answered == list(range(len(answered)))  # none missed, none twice


async def test_an_infeasible_budget_has_its_code(tmp_path: Path) -> None:
    """A limit below every sub-model is refused as `infeasible-budget`; the device answers on."""
    async with open_fleet("mosquitto", tmp_path) as fleet:
        await eventually(lambda: len(fleet.applied()) == 1, LIMIT_S)
        fleet.limit(1)
        await eventually(lambda: "infeasible-budget" in fleet.log(), LIMIT_S)
        count = len(fleet.answered())
        await eventually(lambda: len(fleet.answered()) > count + BATCH, LIMIT_S)

    assert "refused infeasible-budget cam-1: no sub-model is within the limits" in fleet.log()
    assert len(fleet.derived()) == 1


async def test_what_devices_learn_comes_back(tmp_path: Path) -> None:
    """A device that trains on its labelled images gets its modules back in new versions.

    All its labels are of one class, and it was told that they are a fair sample.
    """
    learning = (
        *("--set", "learning.enabled=true", "--set", "learning.every=100"),
        *("--set", "learning.class_prior=true"),
    )
    async with open_fleet("mosquitto", tmp_path, *learning, classes=1) as fleet:
        await eventually(lambda: len(fleet.told("cloud", "module.folded")) > 0, LIMIT_S)
        await eventually(lambda: len(fleet.applied()) > 1, LIMIT_S)
        labels = fleet.labels()

    assert " version 1" in fleet.log()
    newest = fleet.derived()[-1]
    assert newest["reason"] == "versions"
    assert set(labels[:100]) != {0}
    assert set(labels[-BATCH:]) == {0}


async def test_a_fleets_sub_models_are_refined(tmp_path: Path) -> None:
    """Once they have settled, on the cloud's images; the device fetches what came of it."""
    data = tmp_path / "source.npz"
    labels = np.arange(240) % len(tiny.CLASSES)
    images = tiny.make_images(240) // 4 + (labels * 90).astype(np.uint8)[:, None, None, None]
    np.savez(data, x=images, y=labels)
    cloud = (
        *("--set", f"modules.refinement.data={data}", "--set", "modules.refinement.settle_s=1"),
        *("--set", "modules.refinement.training.batches=50"),
    )
    async with open_fleet("mosquitto", tmp_path, cloud=cloud) as fleet:
        await eventually(lambda: len(fleet.told("cloud", "modules.refined")) > 0, LIMIT_S)
        await eventually(lambda: len(fleet.applied()) > 1, LIMIT_S)
        answered = fleet.answered()

    (refined,) = fleet.told("cloud", "modules.refined")
    assert refined["modules"] > 0
    assert refined["loss_after"] < refined["loss_before"]
    assert fleet.derived()[1]["reason"] == "versions"
    assert answered == list(range(len(answered)))


async def test_a_cloud_that_refines_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """In the midst of a training that would take hours; `open_fleet` looks at the exit codes."""
    data = tmp_path / "source.npz"
    np.savez(data, x=tiny.make_images(240), y=np.arange(240) % len(tiny.CLASSES))
    cloud = (
        *("--set", f"modules.refinement.data={data}", "--set", "modules.refinement.settle_s=1"),
        *("--set", "modules.refinement.training.batches=1000000"),
    )
    async with open_fleet("mosquitto", tmp_path, cloud=cloud) as fleet:
        await eventually(lambda: len(fleet.told("cloud", "modules.refining")) > 0, LIMIT_S)

    assert fleet.told("cloud", "modules.refined") == []
