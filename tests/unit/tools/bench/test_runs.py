"""Every run of a plan, once, whatever stops the bench."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tests import tiny

from driftwell.messages.errors import BrokerError
from driftwell.tools.bench.plan import Plan
from driftwell.tools.bench.progress import Lines
from driftwell.tools.bench.results import Result
from driftwell.tools.bench.results_file import ResultsFile
from driftwell.tools.bench.runs import run_bench


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Four runs: two streams, two seeds."""
    tiny.make_bundle(tmp_path, "edge")
    streams = tuple(tiny.write_stream(tmp_path / f"s{n}.npz", 40, seed=n) for n in range(2))
    return Plan(
        edge=tmp_path / "edge", foundation=tmp_path / "edge", streams=streams, methods=("none",),
        transport="virtual", broker="", pace="lockstep", scenario="reset", batch=16, seed=0,
        threads=1, seeds=2,
    )  # fmt: skip


def told() -> Console:
    return Console(file=StringIO(), width=100)


def test_a_bench_that_was_stopped_goes_on(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control-C after the second run: the same command makes the other two, and returns all."""
    out = tmp_path / "r.jsonl"
    has = Lines.has

    def stop(lines: Lines, place: int, result: Result) -> None:
        has(lines, place, result)
        if place == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Lines, "has", stop)
    with pytest.raises(KeyboardInterrupt):
        run_bench(plan, told(), out=ResultsFile(out, Result))
    monkeypatch.undo()
    first = out.read_bytes()
    console = told()

    results = run_bench(plan, console, out=ResultsFile(out, Result))

    assert first.count(b"\n") == 2
    assert out.read_bytes().startswith(first)
    assert out.read_bytes().count(b"\n") == 4
    assert [(r.seed, r.stream) for r in results] == [(0, "s0"), (0, "s1"), (1, "s0"), (1, "s1")]
    assert console.file.getvalue().count("was there") == 2  # type: ignore[attr-defined]


def test_the_seed_orders_the_images_and_changes_nothing_else(plan: Plan) -> None:
    """`none` is right about the same images, in another order."""
    results = run_bench(plan, told())

    by_stream = {(r.stream, r.seed): r for r in results}
    assert by_stream["s0", 0].accuracy == by_stream["s0", 1].accuracy
    assert by_stream["s0", 0].accuracy_by_domain != by_stream["s0", 1].accuracy_by_domain


def test_a_limit_takes_the_first_images(plan: Plan, tmp_path: Path) -> None:
    """As a stream that holds only these."""
    with np.load(plan.streams[0]) as content:
        np.savez(tmp_path / "short.npz", x=content["x"][:24], y=content["y"][:24])
    [limited] = run_bench(replace(plan, streams=plan.streams[:1], seeds=1, images=24), told())
    [short] = run_bench(replace(plan, streams=(tmp_path / "short.npz",), seeds=1), told())

    assert (limited.n, limited.accuracy) == (short.n, short.accuracy)


@pytest.mark.parametrize("method", ["none", "bn", "tent", "eta"])
def test_baselines_take_batches_of_one_and_several_devices(method: str, plan: Plan) -> None:
    """Every image is answered once."""
    [result] = run_bench(
        replace(
            plan, methods=(method,), scenario="recurring", batch=1, devices=3, seeds=1, images=10
        ),
        told(),
    )

    assert result.n == sum(visit.n for visit in result.accuracy_by_domain) == 20


@pytest.mark.integration
def test_a_run_that_fails_leaves_the_others(plan: Plan, tmp_path: Path) -> None:
    """Side by side: what was measured is in the file, and the failure is told by its name."""
    out = tmp_path / "r.jsonl"
    several = replace(plan, methods=("none", "cema"), seeds=1, images=20,
                      cloud_assignments=(f"start={plan.edge}",))  # fmt: skip

    with pytest.raises(BrokerError, match=r"2 of 4 runs failed:\ns0, cema, seed 0: start: cema"):
        run_bench(several, told(), out=ResultsFile(out, Result), jobs=2)

    assert out.read_bytes().count(b"\n") == 2
