"""`driftwell bench`: measure what adaptation brings, and what it costs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console

from driftwell.messages.errors import SettingsError
from driftwell.tools.cli.elastic import elastic
from driftwell.tools.cli.logs import configure_logs

if TYPE_CHECKING:
    from driftwell.tools.bench.plan import Plan
    from driftwell.tools.bench.results import Result

app = typer.Typer(help="Measure methods.", no_args_is_help=True)
app.command("elastic")(elastic)


@app.command("stream")
def stream(
    *,
    edge: Annotated[Path, typer.Option(help="Bundle of the edge model.")],
    foundation: Annotated[Path, typer.Option(help="Bundle of the foundation model.")],
    first: Annotated[list[Path], typer.Option("--stream", help="Labelled .npz; repeat for more.")],
    more: Annotated[list[Path] | None, typer.Argument(help="Further streams.")] = None,
    method: Annotated[
        str, typer.Option(help="none, bn and so on, commas between; `all` for every one.")
    ] = "none,bn,tent,eta,cema",
    transport: Annotated[
        str,
        typer.Option(
            help="mqtt (processes and a broker), inprocess (in memory), or virtual (no daemons, "
            "no waiting)."
        ),
    ] = "mqtt",
    broker: Annotated[
        str, typer.Option(help="With mqtt: amqtt, mosquitto, or the URL of a running broker.")
    ] = "amqtt",
    pace: Annotated[
        str, typer.Option(help="lockstep, max, or rate:N images a second.")
    ] = "lockstep",
    scenario: Annotated[
        str,
        typer.Option(
            help="reset, correlated or clean: anew for each stream; continual, gradual, mixed or "
            "recurring: all streams in one run."
        ),
    ] = "reset",
    batch: Annotated[int, typer.Option(min=1, help="Images a batch.")] = 64,
    images: Annotated[
        int | None, typer.Option(min=1, help="First images of each stream; all if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="First seed; 0 is the file's order.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="How many seeds.")] = 1,
    devices: Annotated[
        int, typer.Option(min=1, max=1000, help="Devices that share the images; virtual only.")
    ] = 1,
    pooling: Annotated[
        str, typer.Option(help="alone: each device its own cohort; cohort: all in one.")
    ] = "alone",
    delay: Annotated[
        int, typer.Option(min=0, help="Batches until a version is there; virtual only.")
    ] = 0,
    drop: Annotated[
        float, typer.Option(min=0, max=1, help="Share of messages that get lost; virtual only.")
    ] = 0.0,
    budget_bytes: Annotated[
        int | None, typer.Option(min=0, help="Upload bytes of a device in a run.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of edge and cloud each.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Runs at the same time.")] = 1,
    record: Annotated[
        Path | None, typer.Option(help="Record each run that has a cloud to this .mcap file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write each result to this file as it comes, and skip what it holds."),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    edge_set: Annotated[
        list[str] | None, typer.Option(help="Edge setting key=value, or METHOD:key=value.")
    ] = None,
    cloud_set: Annotated[
        list[str] | None, typer.Option(help="Cloud setting key=value, or METHOD:key=value.")
    ] = None,
) -> None:
    """Answer streams batch by batch, predict first and adapt after, and report accuracy and cost.

    Example: driftwell bench stream --edge bundles/edge --foundation bundles/foundation
    --stream fog.npz snow.npz --method none,bn,cema --transport virtual --scenario gradual
    --seeds 3 --delay 4 --out results.jsonl

    A bench with --out that was stopped goes on with the same command.
    """
    from driftwell.edge.pace import parse_pace
    from driftwell.tools.bench.plan import ALL_METHODS, Plan, Pooling, Scenario, Transport
    from driftwell.tools.bench.scenarios import SCENARIOS

    methods = ALL_METHODS if method == "all" else tuple(name.strip() for name in method.split(","))
    for name in methods:
        _require(name, ALL_METHODS, "--method")
    parse_pace(pace)
    transports = ("mqtt", "inprocess", "virtual")
    plan = Plan(
        edge=edge,
        foundation=foundation,
        streams=(*first, *(more or ())),
        methods=tuple(dict.fromkeys(methods)),
        transport=cast("Transport", _require(transport, transports, "--transport")),
        broker=broker,
        pace=pace,
        scenario=cast("Scenario", _require(scenario, tuple(SCENARIOS), "--scenario")),
        batch=batch,
        seed=seed,
        threads=threads,
        edge_assignments=tuple(edge_set or ()),
        cloud_assignments=tuple(cloud_set or ()),
        record=record,
        seeds=seeds,
        images=images,
        devices=devices,
        pooling=cast("Pooling", _require(pooling, ("alone", "cohort"), "--pooling")),
        delay=delay,
        drop=drop,
        budget_bytes=budget_bytes,
    )
    _require_recordings(plan)
    _require(format_, ("table", "json"), "--format")
    _print(_run(plan, out, jobs), format_)


def _run(plan: "Plan", out: Path | None, jobs: int) -> "list[Result]":
    from driftwell.tools.bench.results import Result
    from driftwell.tools.bench.results_file import ResultsFile
    from driftwell.tools.bench.runs import run_bench

    configure_logs("warning", as_json=False)  # the daemons of an in-process run would drown it
    progress = Console(stderr=True, highlight=False)
    file = None if out is None else ResultsFile(out, Result)
    try:
        return run_bench(plan, progress, out=file, jobs=jobs)
    except KeyboardInterrupt:
        if file is not None:
            progress.print(f"stopped; the same command goes on from {file.path}", markup=False)
        raise


def _print(results: "Sequence[Result]", format_: str) -> None:
    from driftwell.tools.bench.results import as_json
    from driftwell.tools.bench.tables import as_table

    if format_ == "json":
        sys.stdout.write(as_json(results) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(as_table(results))


def _require_recordings(plan: "Plan") -> None:
    """Say before the first run, not after it, that there is nothing to record or no place."""
    if plan.record is None:
        return
    if not plan.cloud_methods:
        raise SettingsError("--record needs a method with a cloud, such as --method cema")
    from driftwell.tools.bench.plan import tasks_of

    for task in tasks_of(plan):
        path = task.plan.recording_of(task.name, task.method)
        if path is not None and path.exists() and task.method in plan.cloud_methods:
            raise SettingsError(f"{path} is there already; choose another --record")


def _require(value: str, known: tuple[str, ...], option: str) -> str:
    if value not in known:
        raise SettingsError(f"{option} {value!r} is not known; use one of {', '.join(known)}")
    return value
