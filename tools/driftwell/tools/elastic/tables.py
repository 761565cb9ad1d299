"""Pure. The elastic bench's results as a table for a terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Final

from rich.table import Table

from driftwell.tools.elastic.results import ElasticResult, bytes_until

RIVAL: Final = "fedavg"
"""Whose last accuracy the others' traffic is counted to."""

COLUMNS: Final[Mapping[str, tuple[Callable[[ElasticResult], float], int]]] = {
    "one step %": (lambda r: r.accuracy_one_step, 2),
    "run %": (lambda r: r.accuracy_run, 2),
    "last step %": (lambda r: r.accuracy_by_step[-1], 2),
    "MB up": (lambda r: r.bytes_up / 1e6, 2),
    "MB down": (lambda r: r.bytes_down / 1e6, 2),
    "over budget": (lambda r: r.budget_violations, 1),
    "parameters": (lambda r: fmean(one.parameters for one in r.costs), 0),
    "peak MB": (lambda r: fmean(one.peak_bytes for one in r.costs) / 1e6, 2),
    "latency ms": (lambda r: fmean(one.latency_ms for one in r.costs), 2),
}
"""What each column shows of a result, and with how many decimals; costs: mean over devices."""

SPREAD: Final = frozenset({"one step %", "run %", "last step %"})
"""Columns that show the standard deviation over the seeds."""


def as_table(results: Sequence[ElasticResult]) -> Table:
    """A row for each problem, skew and method; several seeds are one row: their mean.

    In the columns of accuracy ± is the standard deviation of a seed. The last column is empty
    where a method did not get there with every seed, or FedAvg was not run with them.
    """
    table = Table(title="bench elastic")
    for column in ("problem", "skew", "method"):
        table.add_column(column)
    for column in (*COLUMNS, f"MB to {RIVAL}'s"):
        table.add_column(column, justify="right")
    by_row: dict[tuple[str, int, str], list[ElasticResult]] = {}
    for result in results:
        by_row.setdefault((result.problem, result.skew, result.method), []).append(result)
    for (problem, skew, method), own in by_row.items():
        cells = (*_cells(own), _traffic_to_rival(own, results))
        table.add_row(problem, str(skew), method, *cells)
    return table


def _cells(results: Sequence[ElasticResult]) -> Iterable[str]:
    for name, (value, digits) in COLUMNS.items():
        values = [value(result) for result in results]
        cell = f"{fmean(values):.{digits}f}"
        if name in SPREAD and len(values) > 1:
            cell += f" ± {stdev(values):.{digits}f}"
        yield cell


def _traffic_to_rival(own: Sequence[ElasticResult], results: Sequence[ElasticResult]) -> str:
    spent = []
    for result in own:
        wanted = [
            rival.accuracy_by_step[-1]
            for rival in results
            if rival.method == RIVAL and _world(rival) == _world(result)
        ]
        total = bytes_until(result, wanted[0]) if wanted else None
        if total is None:
            return ""
        spent.append(total / 1e6)
    return f"{fmean(spent):.2f}"


def _world(result: ElasticResult) -> tuple[str, int, int, int, int]:
    return (result.problem, result.skew, result.seed, result.devices, result.steps)
