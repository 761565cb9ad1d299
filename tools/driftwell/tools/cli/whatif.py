"""`driftwell whatif`: run a recording again with other settings, side by side."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from driftwell.messages.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from driftwell.tools.whatif.results import Report

DRAWS = "matplotlib"
MEASURE = 10_000  # columns, more than any table has


def run_whatif(
    *,
    recording: Annotated[Path, typer.Argument(help="Recording, best with raw streams.")],
    edge: Annotated[Path, typer.Option(help="Bundle of the edge model that was recorded.")],
    foundation: Annotated[Path, typer.Option(help="Bundle of the foundation model.")],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="One variant: key=value[,key=value …]; repeat for more."),
    ] = None,
    grids: Annotated[
        list[str] | None,
        typer.Option("--grid", help="A sweep: key=value,value …; several give all combinations."),
    ] = None,
    devices: Annotated[
        list[str] | None,
        typer.Option("--device", help="Only this device; repeat for more. Default: all."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many images of each device. Default: all.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Variants at the same time. Default: one a core.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the JSON here too.")
    ] = None,
    html_file: Annotated[
        Path, typer.Option("--html", help="The report with plots, one file.")
    ] = Path("whatif.html"),
    no_html: Annotated[bool, typer.Option("--no-html", help="No report.")] = False,
) -> None:
    """Ask what a recorded run would have come to with other settings, each in its own process.

    The first row is the live run, the second the same settings run again; then a row for each
    variant. Keys are settings of the devices (batch, filter.e_max) or of the cloud (seed,
    method.policy.batch); method=NAME takes another method or a baseline (none, bn, own, tent, eta).
    Exit code 1 if a variant failed.

    Example: driftwell whatif run.mcap --edge bundles/edge --foundation bundles/foundation
    --set filter.e_max=0.3 --set method=eta --grid filter.e_max=0.2,0.4 --grid seed=0,1
    """
    _require_format(format_)
    _require_place(json_file)
    if not no_html:
        _require_drawing()
        _require_place(html_file)
    from driftwell.tools.whatif.variants import read_variants

    variants = read_variants(sets or (), grids or ())
    from driftwell.tools.whatif.program import Question, answer
    from driftwell.tools.whatif.results import as_json
    from driftwell.tools.whatif.streams import Choice

    question = Question(
        choice=Choice(recording, tuple(dict.fromkeys(devices)) if devices else None, limit),
        edge=edge,
        foundation=foundation,
        variants=variants,
        jobs=jobs or _cores(),
    )
    report, outcomes = answer(question, Console(stderr=True, highlight=False))
    if format_ == "json":
        sys.stdout.write(as_json(report) + "\n")
    else:
        _print_table(report)
    if json_file is not None:
        _write(json_file, as_json(report) + "\n")
    if not no_html:
        from driftwell.tools.whatif.figures import draw_figures
        from driftwell.tools.whatif.page import as_html

        _write(html_file, as_html(report, draw_figures(outcomes)))
    if any(result.error for result in report.results):
        raise typer.Exit(1)


def _require_place(file: Path | None) -> None:
    """Say before the variants run, not after, that a result has no place to go."""
    if file is not None and (file.is_dir() or not os.access(file.absolute().parent, os.W_OK)):
        raise SettingsError(f"{file} cannot be written: choose a file in a folder of yours")


def _print_table(report: "Report") -> None:
    from driftwell.tools.whatif.results import COLUMNS, COSTS, LEGEND, remarks

    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    names = list(COLUMNS)
    table = _table(report, names)
    wide = console.options.update(width=MEASURE)
    if console.measure(table, options=wide).maximum <= console.width:
        console.print(table)
    else:
        console.print(_table(report, names[:COSTS]))
        console.print(_table(report, [names[0], *names[COSTS:]]))
    for sentence in (*remarks(report), *LEGEND):
        console.print(escape(sentence), soft_wrap=True)


def _table(report: "Report", names: "Sequence[str]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from driftwell.tools.whatif.results import COLUMNS, cells

    table = Table(title=escape(f"whatif {report.recording}"), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        is_first = name == names[0]
        table.add_column(
            name, justify="left" if is_first else "right", overflow="fold", no_wrap=not is_first
        )
    for result in report.results:
        row = dict(zip(COLUMNS, cells(result), strict=True))
        table.add_row(*(escape(row[name]) for name in names))
    return table


def _require_format(name: str) -> None:
    if name not in {"table", "json"}:
        raise SettingsError(f"--format {name!r} is not known; use one of table, json")


def _require_drawing() -> None:
    if importlib.util.find_spec(DRAWS) is None:
        raise SettingsError(
            f'the report needs {DRAWS}: pip install "driftwell[demo]" '
            "(or leave the report out with --no-html)"
        )


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror}") from error


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
