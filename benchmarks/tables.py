"""Turns the JSON lines of `driftwell bench stream --out` into Markdown tables.

python benchmarks/tables.py streams|scenarios|domains RESULTS.jsonl ...

streams:    for each setting of the bench, a column a method: accuracy by stream, uploads, bytes
scenarios:  a row for each scenario, batch, delay, loss and so on; a column a method
domains:    for each run over several domains, a row a visit: accuracy, in its first two batches,
            in its last two

Accuracy is in percent: the mean over the seeds ± the standard deviation of a seed. Bytes are of a
run; of a scenario that runs each stream by itself, the mean over the streams.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

Row = dict[str, Any]

SETTINGS: Final = ("scenario", "transport", "batch", "images", "devices", "pooling", "delay",
                   "drop", "budget_bytes")  # fmt: skip
ALWAYS: Final = ("scenario", "batch", "delay", "drop")
"""Settings that are a column of their own even where they never change."""


def main(kind: str, files: Sequence[Path]) -> None:
    """Print the tables of one kind."""
    rows = read(files)
    for line in {"streams": by_stream, "scenarios": by_scenario, "domains": by_domain}[kind](rows):
        print(line)


def read(files: Sequence[Path]) -> list[Row]:
    """All results, each once; the last one counts if a run was made again.

    Raises:
        SystemExit: if two different runs would share a cell of a table.
    """
    rows = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[row["key"]] = row
    cells: dict[tuple[object, ...], str] = {}
    for key, row in rows.items():
        cell = (setting(row), row["stream"], name(row), row["seed"])
        if cells.setdefault(cell, key) != key:
            raise SystemExit(
                f"{row['stream']}, {name(row)}, seed {row['seed']}: two results, of other bundles, "
                "streams or settings; put them into files of their own"
            )
    return list(rows.values())


def setting(row: Row) -> tuple[object, ...]:
    """What a run was made with, without stream, method and seed."""
    return tuple(row.get(one) for one in SETTINGS)


def name(row: Row) -> str:
    """The method, with the settings that were changed."""
    changed = ", ".join(one.partition(":")[2] for one in row.get("assignments", ()))
    return f"{row['method']} ({changed})" if changed else str(row["method"])


def by_stream(rows: list[Row]) -> Iterator[str]:
    """A table for each setting."""
    for one in unique(rows, setting):
        own = [row for row in rows if setting(row) == one]
        streams = unique(own, lambda row: row["stream"])
        known = [f"{k} {v}" for k, v in zip(SETTINGS, one, strict=True) if v is not None]
        yield f"{', '.join(known)}:\n"
        methods = unique(own, name)
        yield from head("stream", methods)
        for stream in streams:
            cells = [
                spread([r for r in own if (r["stream"], name(r)) == (stream, m)], "accuracy")
                for m in methods
            ]
            yield f"| {' | '.join([stream, *cells])} |"
        of = {m: [row for row in own if name(row) == m] for m in methods}
        if len(streams) > 1:
            cells = [f"**{spread(of[m], 'accuracy')}**" for m in methods]
            yield f"| {' | '.join(['**mean**', *cells])} |"
        for field, unit in (("uploaded", 1), ("bytes_up", 1e3), ("bytes_down", 1e3)):
            cells = [f"{fmean(row[field] for row in of[m]) / unit:.0f}" for m in methods]
            label = field.replace("bytes_", "kB ")
            yield f"| {' | '.join([label, *cells])} |"
        yield ""


def by_scenario(rows: list[Row]) -> Iterator[str]:
    """One table; settings that never change are left out."""
    varied = [
        place
        for place, one in enumerate(SETTINGS)
        if one in ALWAYS or len({setting(row)[place] for row in rows}) > 1
    ]
    methods = unique(rows, name)
    yield from head(" | ".join(SETTINGS[place] for place in varied), methods, left=len(varied))
    for one in unique(rows, setting):
        own = [row for row in rows if setting(row) == one]
        cells = [spread([row for row in own if name(row) == m], "accuracy") for m in methods]
        values = ["" if one[place] is None else str(one[place]) for place in varied]
        yield f"| {' | '.join([*values, *cells])} |"


def by_domain(rows: list[Row]) -> Iterator[str]:
    """A table for each setting whose runs have several domains."""
    several = [row for row in rows if len(row["accuracy_by_domain"]) > 1]
    for one in unique(several, setting):
        own = [row for row in several if setting(row) == one]
        methods = unique(own, name)
        known = [f"{k} {v}" for k, v in zip(SETTINGS, one, strict=True) if v is not None]
        yield f"{', '.join(known)}; all (first two batches, last two):\n"
        yield from head("domain | visit", methods, left=2)
        for domain, visit in unique(visits(own), lambda v: (v["domain"], v["visit"])):
            cells = []
            for method in methods:
                of = [
                    v
                    for v in visits([row for row in own if name(row) == method])
                    if (v["domain"], v["visit"]) == (domain, visit)
                ]
                first, last = (spread(of, f"accuracy_{edge}") for edge in ("first", "last"))
                cells.append(f"{spread(of, 'accuracy')} ({first}, {last})" if of else "")
            yield f"| {domain} | {visit + 1} | {' | '.join(cells)} |"
        yield ""


def visits(rows: list[Row]) -> list[Row]:
    """Every visit of some runs, with the seed of its run."""
    return [{**visit, "seed": row["seed"]} for row in rows for visit in row["accuracy_by_domain"]]


def spread(rows: list[Row], field: str) -> str:
    """Mean over everything of a seed, then mean and standard deviation over the seeds."""
    seeds = unique(rows, lambda row: row["seed"])
    means = [fmean(row[field] for row in rows if row["seed"] == seed) for seed in seeds]
    if not means:
        return ""
    deviation = f" ± {stdev(means):.2f}" if len(means) > 1 else ""
    return f"{fmean(means):.2f}{deviation}"


def unique(rows: Sequence[Row], of: Callable[[Row], Any]) -> list[Any]:
    """What the rows have, in the order of its first appearance."""
    return list(dict.fromkeys(of(row) for row in rows))


def head(first: str, columns: Sequence[str], *, left: int = 1) -> Iterator[str]:
    """The two lines above a table; the first columns are text."""
    yield f"| {' | '.join([first, *columns])} |"
    yield f"|{' --- |' * left}{' ---: |' * len(columns)}"


if __name__ == "__main__":
    main(sys.argv[1], [Path(file) for file in sys.argv[2:]])
