"""Pure. What the bench measured, as JSON and as a table."""

from collections.abc import Sequence

import msgspec
from rich.table import Table


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one stream."""

    stream: str
    method: str
    seed: int
    n: int
    """Samples answered."""
    accuracy: float
    """Percent."""
    uploaded: int
    bytes_up: int
    """Every PUBLISH packet of the device, whole."""
    bytes_down: int
    """Every PUBLISH packet to the device, whole."""
    versions_applied: int
    versions_refused: int
    lag_s_p50: float | None
    """Seconds from the newest sample a version learned from to its first answer."""
    edge_forward_ms: float
    """Mean per batch."""
    edge_other_ms: float
    """Mean per batch: everything the edge does but the forward pass, waiting not counted."""
    digests: tuple[str, ...] = ()
    """The result digest of every version the cloud made, in order."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All results of one run of the bench."""

    results: tuple[Result, ...]


def as_json(results: Sequence[Result]) -> str:
    """One JSON object, indented."""
    encoded = msgspec.json.encode(Report(results=tuple(results)))
    return msgspec.json.format(encoded, indent=2).decode()


def as_table(results: Sequence[Result]) -> Table:
    """A row each, and the mean of every method that ran on more than one stream."""
    table = Table(title="bench stream")
    for column in ("stream", "method"):
        table.add_column(column)
    for column in (
        "n", "accuracy %", "uploaded", "kB up", "kB down", "applied", "refused", "lag s",
        "forward ms", "other ms",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(*_cells(result))
    methods = list(dict.fromkeys(result.method for result in results))
    if len(results) > len(methods):
        table.add_section()
        for method in methods:
            table.add_row(*_mean_cells(method, [r for r in results if r.method == method]))
    return table


def _cells(result: Result) -> tuple[str, ...]:
    lag = "" if result.lag_s_p50 is None else f"{result.lag_s_p50:.2f}"
    return (
        result.stream,
        result.method,
        str(result.n),
        f"{result.accuracy:.2f}",
        str(result.uploaded),
        f"{result.bytes_up / 1e3:.1f}",
        f"{result.bytes_down / 1e3:.1f}",
        str(result.versions_applied),
        str(result.versions_refused),
        lag,
        f"{result.edge_forward_ms:.1f}",
        f"{result.edge_other_ms:.1f}",
    )


def _mean_cells(method: str, results: Sequence[Result]) -> tuple[str, ...]:
    def mean(field: str) -> float:
        return float(sum(getattr(result, field) for result in results)) / len(results)

    return (
        f"mean of {len(results)}",
        method,
        f"{mean('n'):.0f}",
        f"{mean('accuracy'):.2f}",
        f"{mean('uploaded'):.0f}",
        f"{mean('bytes_up') / 1e3:.1f}",
        f"{mean('bytes_down') / 1e3:.1f}",
        f"{mean('versions_applied'):.0f}",
        f"{mean('versions_refused'):.0f}",
        "",
        f"{mean('edge_forward_ms'):.1f}",
        f"{mean('edge_other_ms'):.1f}",
    )
