"""A recorded run is that run: its replay makes the very versions the live cloud made."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests import tiny

from driftwell.messages.topics import Kind
from driftwell.recording.reader import Recording, address_of
from driftwell.tools.bench.loop import run_stream
from driftwell.tools.bench.plan import Plan, Transport

ROOT = Path(__file__).resolve().parents[2]
MISSING = [n for n in ("torch", "sklearn", "matplotlib") if importlib.util.find_spec(n) is None]

pytestmark = pytest.mark.integration


def driftwell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    return subprocess.run(
        [sys.executable, "-m", "driftwell.tools.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=200,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def digests_of_replay(recording: Path, edge: Path, foundation: Path, *more: str) -> list[str]:
    """What `driftwell replay --into cloud --digests` prints."""
    done = driftwell(
        "replay", recording, "--into", "cloud", "--edge", edge, "--foundation", foundation,
        "--digests", *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A bench of one tiny stream, recorded."""
    tiny.make_bundle(tmp_path, "edge")
    tiny.make_bundle(tmp_path, "foundation")
    return Plan(
        edge=tmp_path / "edge", foundation=tmp_path / "foundation",
        streams=(tiny.write_stream(tmp_path / "s.npz", 200),), methods=("cema",),
        transport="inprocess", broker="amqtt", pace="lockstep", scenario="reset", batch=32,
        seed=0, threads=1, record=tmp_path / "run.mcap",
        edge_assignments=("filter.e_min=0.0", "filter.e_max=1.0"),
        cloud_assignments=("method.policy.batch=16", "method.replay.minimum=32"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("transport", "pace"), [("inprocess", "lockstep"), ("mqtt", "lockstep"), ("mqtt", "max")]
)
def test_a_bench_replays_to_its_own_versions(
    plan: Plan, tmp_path: Path, transport: Transport, pace: str
) -> None:
    """In lockstep and as fast as it goes: a cohort's versions depend on its samples' order."""
    (tmp_path / "run").mkdir()
    wanted = replace(plan, transport=transport, pace=pace)

    outcome = asyncio.run(run_stream(wanted, "cema", plan.streams[0], tmp_path / "run"))

    recording = tmp_path / "run.mcap"
    assert len(outcome.digests) > 3
    again = digests_of_replay(recording, plan.edge, plan.foundation)
    assert again == list(outcome.digests)
    other = digests_of_replay(recording, plan.edge, plan.foundation, "--seed", "1")
    assert other != again


def test_the_recording_of_a_bench_is_complete(plan: Plan, tmp_path: Path) -> None:
    """Every kind that travels, every image with its label, and the settings of both ends."""
    (tmp_path / "run").mkdir()

    outcome = asyncio.run(run_stream(plan, "cema", plan.streams[0], tmp_path / "run"))

    with Recording(tmp_path / "run.mcap") as recording:
        topics = {topic: n for topic, n in recording.topics.items() if n}
        kinds = {a.kind for a in map(address_of, topics) if a is not None}
        documents = recording.documents()
    assert {Kind.STATE, Kind.SAMPLES, Kind.EVENT, Kind.ACK, Kind.HEAD, Kind.STREAM} <= kinds
    assert topics["driftwell/v1/default/bench/stream"] == outcome.summary.batches
    assert set(documents) == {
        "bundle:foundation:default",
        "settings:cloud:default",
        "settings:edge:default/bench",
    }


@pytest.mark.timeout(400)
@pytest.mark.skipif(bool(MISSING), reason=f"the demo needs {', '.join(MISSING)}")
def test_a_demo_in_lockstep_replays_to_its_own_versions(cache: Path, tmp_path: Path) -> None:
    """Three devices, four processes, a real broker: the recording makes the same versions."""
    recording, out = tmp_path / "demo.mcap", tmp_path / "out"

    demo = driftwell(
        "demo", "--samples", "240", "--lockstep", "--keep", "--record", recording,
        "--cache", cache, "--out", out,
    )  # fmt: skip

    assert demo.returncode in {0, 1}, demo.stderr
    live = driftwell("cloud", "versions", "--state", out / "state" / "cloud", "--digests")
    bundles = next(cache.glob("digits-*"))
    again = digests_of_replay(recording, bundles / "edge", bundles / "foundation")
    assert len(again) > 3
    assert again == live.stdout.split()
