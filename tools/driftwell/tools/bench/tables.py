"""Pure. The bench's results as a table for a terminal."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Final

from rich.table import Table

from driftwell.tools.bench.results import Result

COLUMNS: Final[Mapping[str, tuple[Callable[[Result], float | None], int]]] = {
    "n": (lambda r: r.n, 0),
    "accuracy %": (lambda r: r.accuracy, 2),
    "last half %": (lambda r: r.accuracy_last_half, 2),
    "uploaded": (lambda r: r.uploaded, 0),
    "kB up": (lambda r: r.bytes_up / 1e3, 1),
    "kB down": (lambda r: r.bytes_down / 1e3, 1),
    "applied": (lambda r: r.versions_applied, 0),
    "refused": (lambda r: r.versions_refused, 0),
    "lag s": (lambda r: r.lag_s_p50, 2),
    "forward ms": (lambda r: r.edge_forward_ms, 1),
    "other ms": (lambda r: r.edge_other_ms, 1),
}
"""What each column shows of a result, and with how many decimals."""

SPREAD: Final = frozenset({"accuracy %", "last half %"})
"""Columns that show the standard deviation over the seeds."""


def as_table(results: Sequence[Result]) -> Table:
    """A row for each stream and method, and the mean of every method over several streams.

    Several seeds are one row: their mean, and in the columns of accuracy ± the standard
    deviation of a seed.
    """
    scenarios = dict.fromkeys(result.scenario for result in results)
    table = Table(title=f"bench stream, {', '.join(scenarios)}")
    for column in ("stream", "method"):
        table.add_column(column)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    streams = list(dict.fromkeys(result.stream for result in results))
    methods = list(dict.fromkeys(result.method for result in results))
    for stream in streams:
        for method in methods:
            own = [r for r in results if (r.stream, r.method) == (stream, method)]
            if own:
                table.add_row(stream, method, *_cells(own))
    if len(streams) > 1:
        table.add_section()
        for method in methods:
            own = [r for r in results if r.method == method]
            table.add_row(f"mean of {len({r.stream for r in own})}", method, *_cells(own))
    return table


def _cells(results: Sequence[Result]) -> Iterable[str]:
    """One row: the mean over the streams of each seed, then mean and deviation over the seeds."""
    by_seed: dict[int, list[Result]] = {}
    for result in results:
        by_seed.setdefault(result.seed, []).append(result)
    for name, (value, digits) in COLUMNS.items():
        means = [mean for own in by_seed.values() if (mean := _mean(value, own)) is not None]
        if not means:
            yield ""
        elif name in SPREAD and len(means) > 1:
            yield f"{fmean(means):.{digits}f} ± {stdev(means):.{digits}f}"
        else:
            yield f"{fmean(means):.{digits}f}"


def _mean(value: Callable[[Result], float | None], results: Sequence[Result]) -> float | None:
    known = [one for result in results if (one := value(result)) is not None]
    return fmean(known) if known else None
