"""One bad version among 64 is found, and a fleet goes back: with the cloud, without it, killed."""

import asyncio
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests import tiny
from tests.brokers import eventually
from tests.daemons import WITHIN_S, Tap, open_site
from tests.unit.cloud.histories import Cloud, make_cloud, pictures
from typer.testing import CliRunner

from driftwell.cloud.learner import CohortModels, Step
from driftwell.cloud.publisher import reverted_to
from driftwell.messages.codec import encode
from driftwell.messages.head import Manifest
from driftwell.messages.images import Pixels
from driftwell.messages.topics import Kind
from driftwell.tools.cli.model import app
from driftwell.tools.lineage.answering import Answerer, state_of
from driftwell.tools.lineage.reverts import ask, is_running
from driftwell.tools.lineage.versions import open_versions

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "driftwell.tools.cli")
PATHS = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
VERSIONS = 64
IMAGES = pictures(400, seed=9999)
LIMIT_S = 60.0


def manifests(state: Path) -> list[Manifest]:
    with open_versions(state) as versions:
        return [one.manifest for one in versions.read()]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.int64]:
    """What the first version says: those that only learn stay near it, a harmful one does not."""
    cloud = make_cloud(tmp_path_factory.mktemp("clean"))
    cloud.learn(range(1, 2))
    state = state_of(cloud.edge, manifests(cloud.state)[0])
    return Answerer(cloud.edge.network()).answers(state, IMAGES).prediction.astype(np.int64)


def find_culprit(cloud: Cloud, recording: Path, test: str, *more: str) -> tuple[int, int, str]:
    """Run `bisect`; the culprit, how many evaluations it printed, and the rest."""
    result = CliRunner().invoke(
        app,
        ["bisect", "--state", str(cloud.state), "--edge", str(cloud.edge.path),
         "--recording", str(recording), "--test", test, *more],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    culprit = re.search(r"version (\d+) is the first bad one", result.output)
    assert culprit is not None, result.output
    return (
        int(culprit[1]),
        len(re.findall(r"(?m)^\d+\. version \d+: ", result.output)),
        result.output,
    )


@pytest.mark.parametrize("harmful", [1, 2, 23, 64])
def test_one_bad_version_among_64_is_found(
    tmp_path: Path, labels: NDArray[np.int64], harmful: int
) -> None:
    """`bisect` finds it in at most 7 evaluations, and says which batch it learned from."""
    cloud = make_cloud(tmp_path)
    cloud.learn(range(1, VERSIONS + 1), harmful=harmful)
    recording = cloud.record(tmp_path / "site.mcap", IMAGES, labels)
    assert [one.version for one in manifests(cloud.state)] == list(range(1, VERSIONS + 1))

    culprit, evaluations, output = find_culprit(cloud, recording, "accuracy>=56")

    assert culprit == harmful
    assert evaluations <= 7
    assert "cam-1 (1 batch)" in output
    assert f"cam-1/0123456789abcdef/{harmful}\n" in output
    assert f"driftwell model revert --to {harmful - 1} --cohort cam-1" in output


def test_the_other_tests_find_it_too(tmp_path: Path, labels: NDArray[np.int64]) -> None:
    """Against a good version's accuracy, its answers without labels, and by a program."""
    cloud = make_cloud(tmp_path)
    cloud.learn(range(1, 9), harmful=6)
    labelled = cloud.record(tmp_path / "labelled.mcap", IMAGES, labels)
    bare = cloud.record(tmp_path / "bare.mcap", IMAGES, None)
    harmed = manifests(cloud.state)[5]
    program = tmp_path / "says.py"
    program.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from safetensors.numpy import load_file\n"
        "weights = load_file(Path(sys.argv[-1]) / 'weights.safetensors')\n"
        "sys.exit(int(weights['bn2.weight'].mean() < 0))\n"
    )

    found = [
        find_culprit(cloud, labelled, "drop<=20", "--good", "2")[:2],
        find_culprit(cloud, bare, "agreement>=80", "--good", "3", "--bad", "7")[:2],
        find_culprit(cloud, bare, f"command:{sys.executable} {program}")[:2],
    ]

    assert harmed.version == 6
    assert [culprit for culprit, _ in found] == [6, 6, 6]
    assert max(evaluations for _, evaluations in found) <= 4


async def call(*arguments: str | Path) -> str:
    """Run one `driftwell ...` to its end."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *map(str, arguments), env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(LIMIT_S):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_a_revert_reaches_the_device_while_the_cloud_runs(tmp_path: Path) -> None:
    """The device has the old bits under a new number, and then learning goes on."""
    async with open_site(tmp_path) as site:
        consumer = await site.start_cloud()
        state = tmp_path / "cloud"
        tap = Tap()
        device = await site.start_edge(site.edge, tap, trust=consumer.public_key.hex())
        for version in (1, 2, 3):
            tap.give(32)
            await eventually(lambda: device.node.incumbent.version == version, WITHIN_S)  # noqa: B023

        said = await call("model", "revert", "--state", state, "--to", "1")

        assert said == "version 4 now leads to what 1 was\n"
        await eventually(lambda: device.node.incumbent.version == 4, WITHIN_S)
        made = manifests(state)
        assert device.node.incumbent.result == made[0].result == made[3].result
        tap.give(32)
        await eventually(lambda: device.node.incumbent.version == 5, WITHIN_S)
        assert manifests(state)[4].provenance.trained_samples == 64
        assert device.counters["versions_refused"] == 0

        said = await call("model", "revert", "--state", state, "--to", "0")
        assert said == "version 6 now leads to the source state\n"
        await eventually(lambda: device.node.incumbent.version == 6, WITHIN_S)
        assert device.node.incumbent.result == site.edge.manifest.source_digest


async def test_a_revert_comes_after_the_step_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for in the middle of a step, it follows the step's version and is not undone by it."""
    monkeypatch.setattr("driftwell.cloud.loops.LOOK_S", 0.01)
    async with open_site(tmp_path) as site:
        consumer = await site.start_cloud()
        step, began, may_end = consumer.learner.step, threading.Event(), threading.Event()

        def slow(
            models: CohortModels, uploads: Pixels, replay: Pixels, draws: np.random.Generator
        ) -> Step:
            began.set()
            may_end.wait(LIMIT_S)
            return step(models, uploads, replay, draws)

        monkeypatch.setattr(consumer.learner, "step", slow)
        batch = tiny.make_batch(tiny.make_images(32), model=site.edge.digest, device="cam-9")
        try:
            await site.say(Kind.SAMPLES, encode(batch))
            await eventually(began.is_set, WITHIN_S)
            ask(tmp_path / "cloud", "cam-9", 0)
            await eventually(lambda: consumer.is_revert_waiting, WITHIN_S)
            assert consumer.counters["reverts"] == 0
        finally:
            may_end.set()
        await eventually(lambda: len(manifests(tmp_path / "cloud")) == 2, WITHIN_S)

        made = manifests(tmp_path / "cloud")
        assert [one.provenance.method for one in made] == ["cema", "revert to 0"]
        assert consumer.cohorts["cam-9"].models.edge.is_fresh
        assert consumer.ledger.books()["cam-9"]["trained"] == 32


class Program:
    """A `driftwell cloud run` in a process of its own, without a broker to talk to."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._log = cloud.folder / "cloud.log"

    def is_ready(self) -> bool:
        """Whether it waits for work, and so is in the middle of no transaction."""
        return b"cloud.ready" in self._log.read_bytes()

    async def start(self) -> None:
        with self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *COMMAND, "cloud", "run", "--method", "cema",
                "--foundation", str(self._cloud.foundation.path),
                "--edge", str(self._cloud.edge.path), "--broker", "mqtt://127.0.0.1:1",
                "--state", str(self._cloud.state), "--threads", "1",
                env=ENVIRONMENT, stdout=log, stderr=log,
            )  # fmt: skip

    async def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        async with asyncio.timeout(LIMIT_S):
            await self.process.wait()


@contextmanager
def no_process_left(program: Program) -> Iterator[None]:
    try:
        yield
    finally:
        if program.process.returncode is None:
            program.process.kill()


async def test_a_revert_without_a_cloud_takes_effect_at_its_start(tmp_path: Path) -> None:
    """The command says so, and the next cloud does it before anything else, broker or not."""
    cloud = make_cloud(tmp_path)
    cloud.learn(range(1, 6))

    said = await call("model", "revert", "--state", cloud.state, "--to", "2")

    assert said == "the cloud is not running; it takes effect at its next start\n"
    assert len(manifests(cloud.state)) == 5
    program = Program(cloud)
    await program.start()
    with no_process_left(program):
        await eventually(lambda: len(manifests(cloud.state)) == 6, LIMIT_S)
        await program.end(signal.SIGTERM)
    made = manifests(cloud.state)
    assert reverted_to(made[5].provenance) == 2
    assert made[5].result == made[1].result


async def test_a_cloud_killed_before_it_answers_loses_no_request(tmp_path: Path) -> None:
    """Asked, killed, started: the revert is done, and done once."""
    cloud = make_cloud(tmp_path)
    cloud.learn(range(1, 6))
    program = Program(cloud)
    await program.start()
    with no_process_left(program):
        await eventually(program.is_ready, LIMIT_S)
        assert is_running(cloud.state)
        await asyncio.to_thread(program.process.send_signal, signal.SIGSTOP)

        said = await call("model", "revert", "--state", cloud.state, "--to", "3", "--wait", "0.5")

        assert said.startswith("the cloud is busy; after its present step")
        await program.end(signal.SIGKILL)
        assert len(manifests(cloud.state)) == 5
        for _ in range(2):
            await program.start()
            await eventually(lambda: len(manifests(cloud.state)) == 6, LIMIT_S)
            await program.end(signal.SIGKILL)
    made = manifests(cloud.state)
    assert [one.provenance.method for one in made[5:]] == ["revert to 3"]
    assert made[5].result == made[2].result
