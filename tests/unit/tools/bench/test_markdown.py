"""The tables of result pages, from files of results."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from driftwell.tools.bench.results import Result, Visit
from driftwell.tools.bench.results_file import ResultsFile

SCRIPT = Path(__file__).resolve().parents[4] / "benchmarks" / "tables.py"
PRINT: Callable[[str, list[Path]], None] = runpy.run_path(str(SCRIPT))["main"]


def result(method: str, accuracy: float, **changes: Any) -> Result:
    visits = tuple(
        Visit(domain=domain, visit=0, n=5, accuracy=accuracy, accuracy_first=1, accuracy_last=2)
        for domain in ("fog", "snow")
    )
    made = Result(
        stream="mixed", method=method, seed=0, n=10, accuracy=accuracy, uploaded=0, bytes_up=4000,
        bytes_down=2000, versions_applied=0, versions_refused=0, lag_s_p50=None,
        edge_forward_ms=0.1, edge_other_ms=0.0, scenario="mixed", accuracy_by_domain=visits,
    )  # fmt: skip
    made = msgspec.structs.replace(made, **changes)
    return msgspec.structs.replace(made, key=f"{hash(made):x}" if not made.key else made.key)


def table(
    kind: str, results: list[Result], folder: Path, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    file = ResultsFile(folder / "r.jsonl", Result)
    for one in results:
        file.add(one)
    PRINT(kind, [file.path])
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]


def test_streams_are_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With their mean over the streams, and the deviation of a seed."""
    results = [
        result("none", 60.0 + 10 * seed, stream=stream, scenario="reset", seed=seed)
        for seed in (0, 1)
        for stream in ("fog", "snow")
    ]

    assert table("streams", results, tmp_path, capsys) == [
        "| stream | none |",
        "| --- | ---: |",
        "| fog | 65.00 ± 7.07 |",
        "| snow | 65.00 ± 7.07 |",
        "| **mean** | **65.00 ± 7.07** |",
        "| uploaded | 0 |",
        "| kB up | 4 |",
        "| kB down | 2 |",
    ]


def test_scenarios_are_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A method that did not run there has an empty cell; what never changes is no column."""
    results = [
        result("none", 60.0), result("cema", 70.0, assignments=("edge:filter.e_max=0.3",)),
        result("none", 50.0, delay=4),
    ]  # fmt: skip

    assert table("scenarios", results, tmp_path, capsys) == [
        "| scenario | batch | delay | drop | none | cema (filter.e_max=0.3) |",
        "| --- | --- | --- | --- | ---: | ---: |",
        "| mixed | 64 | 0 | 0.0 | 60.00 | 70.00 |",
        "| mixed | 64 | 4 | 0.0 | 50.00 |  |",
    ]


def test_visits_are_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With their beginning and their end."""
    assert table("domains", [result("none", 60.0)], tmp_path, capsys) == [
        "| domain | visit | none |",
        "| --- | --- | ---: |",
        "| fog | 1 | 60.00 (1.00, 2.00) |",
        "| snow | 1 | 60.00 (1.00, 2.00) |",
    ]


def test_two_results_are_never_mixed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same method on two bundles is no question of seeds."""
    with pytest.raises(SystemExit, match="two results, of other bundles"):
        table("streams", [result("none", 1.0, key="a"), result("none", 2.0, key="b")],
              tmp_path, capsys)  # fmt: skip
