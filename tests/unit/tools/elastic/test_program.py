"""The elastic bench: every run once, and what is told of them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from driftwell.messages.errors import SettingsError
from driftwell.models.training import Effort
from driftwell.tools.bench.results_file import ResultsFile
from driftwell.tools.elastic import program
from driftwell.tools.elastic.methods import METHODS
from driftwell.tools.elastic.plan import Plan, Shares, tasks_of
from driftwell.tools.elastic.problems import PROBLEMS
from driftwell.tools.elastic.program import run_bench
from driftwell.tools.elastic.results import DeviceCost, ElasticResult, as_json, bytes_until
from driftwell.tools.elastic.tables import as_table


def plan(*methods: str, skews: tuple[int, ...] = (2,), steps: int = 1) -> Plan:
    return Plan(problem="digits", methods=methods, skews=skews, seeds=(0,), devices=3, steps=steps)


@pytest.fixture(autouse=True)
def small_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly trained: what is asked here does not depend on it."""
    small = replace(PROBLEMS["digits"], pretraining=Effort(epochs=1, rate=0.001, batch=32))
    monkeypatch.setattr(program, "PROBLEMS", {"digits": small})


def cost(peak: int = 100, latency: float = 1.0) -> DeviceCost:
    return DeviceCost(
        parameters=10, peak_bytes=peak, latency_ms=latency, memory_budget_bytes=100,
        latency_budget_ms=1.0, download_budget_bytes=40,
    )  # fmt: skip


def result(method: str, by_step: Sequence[float], *, seed: int = 0) -> ElasticResult:
    return ElasticResult(
        problem="digits", method=method, skew=2, seed=seed, devices=1, steps=len(by_step),
        accuracy_one_step=by_step[0], accuracy_run=sum(by_step) / len(by_step),
        accuracy_by_step=tuple(by_step), bytes_up=10**6, bytes_down=10**6,
        bytes_by_step=(2 * 10**6,) * len(by_step), budget_violations=0, memory_violations=0,
        latency_violations=0, costs=(cost(),), key=f"{method}{seed}",
    )  # fmt: skip


def printed(results: Sequence[ElasticResult]) -> str:
    text = StringIO()
    Console(file=text, width=200).print(as_table(results))
    return text.getvalue()


def without_clocks(one: ElasticResult) -> ElasticResult:
    """What follows from plan and seed: no latencies, and nothing that depends on them."""
    costs = tuple(
        msgspec.structs.replace(c, latency_ms=0.0, latency_budget_ms=0.0) for c in one.costs
    )
    return msgspec.structs.replace(
        one, costs=costs, spent_s=0.0, latency_violations=0, budget_violations=0
    )


def test_a_bench_that_was_stopped_goes_on(tmp_path: Path) -> None:
    """What is in the file is not run again; the results of all come back, in order."""
    path = tmp_path / "e.jsonl"
    lines: list[str] = []
    [first] = run_bench(plan("none"), METHODS, lines.append, out=ResultsFile(path, ElasticResult))

    both = run_bench(
        plan("none", "fedavg"), METHODS, lines.append, out=ResultsFile(path, ElasticResult)
    )

    assert [one.method for one in both] == ["none", "fedavg"]
    assert both[0] == first
    assert ["was there" in line for line in lines] == [False, False, True, False, False]
    assert path.read_bytes().count(b"\n") == 2


def test_the_plan_decides_the_results() -> None:
    """Twice the same, clocks apart; and a run does not depend on those beside it."""
    [alone] = run_bench(plan("fedavg"), METHODS, lambda _: None)
    together = run_bench(plan("local", "fedavg", skews=(5, 2)), METHODS, lambda _: None)

    assert without_clocks(alone) == without_clocks(together[-1])


def test_a_run_is_named_by_what_decides_it() -> None:
    """Every run of a plan has another key, and so has one with other budgets."""
    keys = [one.key for one in run_bench(plan("none", skews=(2, 5)), METHODS, lambda _: None)]
    roomy = Plan(
        problem="digits", methods=("none",), skews=(2,), seeds=(0,), devices=3, steps=1,
        shares=Shares(memory=(1.0,)),
    )  # fmt: skip

    [more] = run_bench(roomy, METHODS, lambda _: None)

    assert len({*keys, more.key}) == 3
    assert more.memory_violations == 0


def test_the_full_network_is_over_small_budgets() -> None:
    """Of three devices, those with less memory than it takes; its own latency is none over."""
    [one] = run_bench(plan("none"), METHODS, lambda _: None)
    peak = one.costs[0].peak_bytes

    assert one.memory_violations == sum(c.memory_budget_bytes < peak for c in one.costs)
    assert one.budget_violations >= max(one.memory_violations, one.latency_violations)


@pytest.mark.parametrize(
    ("made", "over"),
    [
        (cost(), (False, False)),
        (cost(peak=101), (True, False)),
        (cost(latency=1.09), (False, False)),
        (cost(latency=1.11), (False, True)),
    ],
)
def test_latency_has_a_tolerance_of_a_tenth(made: DeviceCost, over: tuple[bool, bool]) -> None:
    """Memory has none: it is the same whenever it is measured."""
    assert (made.is_over_memory, made.is_over_latency) == over


def test_what_is_not_there_is_said() -> None:
    """Before anything is read or trained."""
    with pytest.raises(SettingsError, match="magic"):
        run_bench(plan("magic"), METHODS, lambda _: None)
    with pytest.raises(SettingsError, match="methods"):
        plan("none", "none")
    with pytest.raises(SettingsError, match="shares"):
        Shares(latency=(0.0,))


def test_runs_come_by_seed_skew_and_method() -> None:
    """All of a world's methods one after the other."""
    asked = Plan(problem="digits", methods=("a", "b"), skews=(2, 5), seeds=(0, 1))
    told = [(one.seed, one.skew, one.method) for one in tasks_of(asked)]

    assert told[:5] == [(0, 2, "a"), (0, 2, "b"), (0, 5, "a"), (0, 5, "b"), (1, 2, "a")]


def test_json_has_the_promised_fields() -> None:
    """Under the names other programs read."""
    [row] = json.loads(as_json([result("fedavg", [60.0, 70.0])]))["results"]

    promised = {
        "method", "skew", "seed", "accuracy_one_step", "accuracy_run", "accuracy_by_step",
        "bytes_up", "bytes_down", "bytes_by_step", "budget_violations", "costs",
    }  # fmt: skip
    assert promised <= row.keys()
    assert row["costs"][0]["memory_budget_bytes"] == 100


def test_traffic_until_an_accuracy() -> None:
    """Of all steps up to the first one that reached it."""
    one = result("local", [60.0, 72.0, 71.0])

    assert bytes_until(one, 60.0) == 2 * 10**6
    assert bytes_until(one, 71.0) == 4 * 10**6
    assert bytes_until(one, 73.0) is None


def test_the_table_counts_traffic_to_fedavgs_last_accuracy() -> None:
    """Of each method; empty for one that never got there."""
    text = printed([result("fedavg", [60, 70]), result("local", [71, 72]), result("none", [9, 9])])
    last = {line.split("│")[3].strip(): line.split("│")[-2].strip()
            for line in text.splitlines() if "│ digits" in line}  # fmt: skip

    assert last == {"fedavg": "4.00", "local": "2.00", "none": ""}


def test_several_seeds_are_one_row() -> None:
    """Their mean, and the standard deviation of a seed."""
    text = printed([result("local", [70.0]), result("local", [74.0], seed=1)])

    assert "72.00 ± 2.83" in text
    assert text.count("local") == 1
