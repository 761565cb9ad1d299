"""`driftwell model`: where versions come from, what they changed, and how to go back."""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from driftwell.messages.errors import SettingsError

if TYPE_CHECKING:
    from driftwell.models.bundle import Bundle
    from driftwell.tools.lineage.answering import State as Arrays
    from driftwell.tools.lineage.hunt import Outcome, Suspects
    from driftwell.tools.lineage.movement import Movement
    from driftwell.tools.lineage.versions import Versions

app = typer.Typer(
    help="Versions: what made them, what they changed, and going back.", no_args_is_help=True
)

State = Annotated[Path, typer.Option(help="State folder of the cloud; it may run meanwhile.")]
Cohort = Annotated[
    str | None, typer.Option(help="Which cohort's; not needed if there is only one.")
]
Edge = Annotated[Path, typer.Option(help="Bundle of the edge model, the same the cloud was given.")]
Limit = Annotated[
    int, typer.Option(min=1, help="Images at most, evenly spread over stream or recording.")
]
FILE_WIDTH = 200  # characters of a table that goes into a file or a pipe
MAX_PAIRS = 8


@app.command("log")
def log(
    *,
    state: State,
    cohort: Cohort = None,
    format_: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """List versions, newest first.

    Example: driftwell model log --state ~/.local/state/driftwell/cloud-default
    """
    from driftwell.tools.lineage.telling import LOG_COLUMNS, log_document, log_row
    from driftwell.tools.lineage.versions import open_versions

    if format_ not in {"table", "json"}:
        raise SettingsError(f"--format {format_!r} is not understood; use table or json")
    with open_versions(state) as versions:
        wanted = versions.cohort(cohort) if cohort else None
        found = [one.manifest for one in versions.read(wanted)][::-1]
    if format_ == "json":
        typer.echo(json.dumps([log_document(manifest) for manifest in found], indent=1))
        return
    rows = [log_row(manifest, now_ns=time.time_ns()) for manifest in found]
    _print_table(LOG_COLUMNS, rows)


@app.command("show")
def show(
    version: Annotated[int, typer.Argument(min=1, help="Number of the version.")],
    *,
    state: State,
    cohort: Cohort = None,
) -> None:
    """Say everything about a version: batches, devices, configuration, code, signature.

    Example: driftwell model show 37 --state ~/.local/state/driftwell/cloud-default
    """
    from driftwell.tools.lineage.versions import open_versions

    with open_versions(state) as versions:
        typer.echo(_shown(versions, versions.cohort(cohort), version))


@app.command("diff")
def diff(
    first: Annotated[int, typer.Argument(min=0, help="A version; 0 is the source state.")],
    second: Annotated[int, typer.Argument(min=0, help="Another one.")],
    *,
    state: State,
    edge: Edge,
    cohort: Cohort = None,
    probe: Annotated[
        str | None, typer.Option(help="Images to answer: npz:FILE, mcap:FILE or mcap:FILE#DEVICE.")
    ] = None,
    limit: Limit = 2000,
    top: Annotated[int, typer.Option(min=0, help="Arrays to list; 0: all that moved.")] = 20,
) -> None:
    """Say which arrays moved from one version to another, and which answers changed.

    Example: driftwell model diff 0 64 --state state/cloud --edge bundles/edge
    --probe npz:fog.npz
    """
    from driftwell.models.bundle import open_bundle
    from driftwell.tools.lineage.answering import state_of
    from driftwell.tools.lineage.movement import movements
    from driftwell.tools.lineage.versions import open_versions

    with open_versions(state) as versions:
        name = versions.cohort(cohort)
        manifests = [versions.find(name, n).manifest if n else None for n in (first, second)]
    bundle = open_bundle(edge)
    states = [state_of(bundle, manifest) for manifest in manifests]
    moved = movements(bundle.source, states[0], states[1])
    _print_movements(moved, top=top, arrays=len(bundle.source))
    if probe is not None:
        _print_comparison(bundle, states, probe, cohort=name, limit=limit)


@app.command("revert")
def revert(
    *,
    state: State,
    to: Annotated[int, typer.Option(min=0, help="Version to go back to; 0 is the source state.")],
    cohort: Cohort = None,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for a cloud that runs.")
    ] = 10.0,
) -> None:
    """Go back: the cloud makes a new version with the bits of an earlier one.

    The cloud does it between two steps, or at its next start; learning goes on from there.

    Example: driftwell model revert --to 37 --state ~/.local/state/driftwell/cloud-default
    """
    from driftwell.tools.lineage.reverts import ask, is_running, wait_for_answer
    from driftwell.tools.lineage.versions import open_versions

    with open_versions(state) as versions:
        name = versions.cohort(cohort)
        if to:
            versions.find(name, to)
    answer = wait_for_answer(
        state, ask(state, name, to), name, to,
        patience_s=wait_s, monotonic_s=time.monotonic, sleep=time.sleep,
    )  # fmt: skip
    what = f"what {to} was" if to else "the source state"
    if answer.version is not None:
        typer.echo(f"version {answer.version} now leads to {what}")
    elif not answer.is_waiting:
        raise SettingsError(f"the cloud refused to go back to {to}; its log says why")
    elif is_running(state):
        typer.echo(f"the cloud is busy; after its present step a new version leads to {what}")
    else:
        typer.echo("the cloud is not running; it takes effect at its next start")


@app.command("bisect")
def bisect(
    *,
    state: State,
    edge: Edge,
    test: Annotated[
        str,
        typer.Option(
            help="accuracy>=PERCENT, drop<=POINTS, agreement>=PERCENT, or command:PROGRAM ARGS "
            "(gets a bundle's folder as last argument; exit code 0: good, 1 to 124: bad)."
        ),
    ],
    recording: Annotated[
        Path | None, typer.Option(help="Raw streams (.mcap) to test on; a command needs none.")
    ] = None,
    good: Annotated[int, typer.Option(min=0, help="A version known to be good.")] = 0,
    bad: Annotated[int | None, typer.Option(min=1, help="A bad version \\[the newest].")] = None,
    cohort: Cohort = None,
    limit: Limit = 2000,
) -> None:
    """Find the version that hurt: halve what lies between a good and a bad one.

    Example: driftwell model bisect --state state/cloud --edge bundles/edge
    --recording site.mcap --test "accuracy>=70"
    """
    from driftwell.models.bundle import open_bundle
    from driftwell.tools.lineage.criteria import Measure, parse_criterion
    from driftwell.tools.lineage.hunt import Trial, hunt, suspects
    from driftwell.tools.lineage.probe import read_probe
    from driftwell.tools.lineage.versions import open_versions

    criterion = parse_criterion(test)
    if bad is not None and bad <= good:
        raise SettingsError(f"--bad {bad} must come after --good {good}")
    if recording is None and criterion.measure is not Measure.COMMAND:
        raise SettingsError(f"--test {test!r} needs --recording FILE.mcap with raw streams")
    with open_versions(state) as versions:
        name = versions.cohort(cohort)
        suspected = suspects(versions, name, good=good, bad=bad)
        bundle = open_bundle(edge)
        probe = recording and read_probe(
            f"mcap:{recording}", bundle.manifest,
            limit=limit, cohort=name, labelled=criterion.needs_labels,
        )  # fmt: skip
        tested = f"tested on {len(probe.images)} images" if probe else "tested by a program"
        typer.echo(f"{len(suspected.chain)} versions after {suspected.good}, {tested}")
        outcome = hunt(
            versions, name, suspected,
            trial=Trial(bundle, criterion, probe or None), bundle=bundle, say=typer.echo,
        )  # fmt: skip
        typer.echo(_conclusion(versions, name, suspected, outcome, state))


def _shown(versions: "Versions", cohort: str, number: int) -> str:
    from driftwell.tools.lineage.telling import as_lines, show_rows

    version = versions.find(cohort, number)
    rows = show_rows(
        version.manifest,
        configuration=versions.configuration(cohort, number),
        signature=versions.signature_says(version),
        now_ns=time.time_ns(),
    )
    return as_lines(rows)


def _conclusion(
    versions: "Versions", cohort: str, suspected: "Suspects", outcome: "Outcome", state: Path
) -> str:
    if not suspected.chain:
        return f"nothing to find: no version was made after version {suspected.good}"
    if outcome.found is None:
        return f"nothing to find: version {suspected.chain[-1]} passes the test"
    culprit, before = outcome.found.culprit, outcome.found.before
    lines = [
        f"\nversion {culprit} is the first bad one ({outcome.evaluations} evaluations)",
        "",
        _shown(versions, cohort, culprit),
        "",
    ]
    if before is None and not suspected.is_whole:
        lines.append(f"Versions before {culprit} are not kept any more; it may be one of them.")
    target = suspected.good if before is None else before
    back = f"driftwell model revert --to {target} --cohort {cohort} --state {state}"
    lines.append(f"To go back: {back}")
    if target == suspected.good:
        lines.append(f"Version {target} was taken to be good and was not tested.")
    return "\n".join(lines)


def _print_movements(moved: "list[Movement]", *, top: int, arrays: int) -> None:
    typer.echo(f"{len(moved)} of {arrays} arrays moved")
    if not moved:
        return
    shown = moved[:top] if top else moved
    rows = [
        (
            one.name,
            f"{one.rms:.6f}",
            f"{one.largest:.6f}",
            "-" if one.relative is None else f"{one.relative:.4f}",
        )
        for one in shown
    ]
    _print_table(("array", "RMS", "largest", "RMS / source"), rows)
    if len(shown) < len(moved):
        typer.echo(f"and {len(moved) - len(shown)} more (--top 0 lists all)")


def _print_comparison(
    bundle: "Bundle",
    states: "list[Arrays]",
    probe: str,
    *,
    cohort: str,
    limit: int,
) -> None:
    from driftwell.tools.lineage.answering import Answerer
    from driftwell.tools.lineage.comparison import compare
    from driftwell.tools.lineage.probe import read_probe

    images = read_probe(probe, bundle.manifest, limit=limit, cohort=cohort)
    answerer = Answerer(bundle.network())
    first, second = (answerer.answers(state, images.images) for state in states)
    found = compare(
        first, second, classes=bundle.manifest.classes, labels=images.labels, pairs=MAX_PAIRS
    )
    share = 100 * found.changed / found.images
    typer.echo(f"{found.changed} of {found.images} predictions changed ({share:.1f} %)")
    for before, after, count in found.pairs:
        typer.echo(f"  {count:6} {before} -> {after}")
    typer.echo("mean entropy {:.4f} -> {:.4f} nats".format(*found.entropy_nats))
    if found.accuracy_percent is not None:
        typer.echo("accuracy {:.2f} -> {:.2f} %".format(*found.accuracy_percent))


def _print_table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(*columns, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(escape, row))
    width = None if sys.stdout.isatty() else FILE_WIDTH
    Console(width=width, highlight=False).print(table)
