"""`driftwell bench`: measure what adaptation brings, and what it costs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console

from driftwell.messages.errors import SettingsError
from driftwell.tools.cli.logs import configure_logs

if TYPE_CHECKING:
    from driftwell.tools.bench.plan import Plan

app = typer.Typer(help="Measure methods on recorded streams.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure methods on recorded streams."""


@app.command("stream")
def stream(
    *,
    edge: Annotated[Path, typer.Option(help="Bundle of the edge model.")],
    foundation: Annotated[Path, typer.Option(help="Bundle of the foundation model.")],
    first: Annotated[list[Path], typer.Option("--stream", help="Labelled .npz; repeat for more.")],
    more: Annotated[list[Path] | None, typer.Argument(help="Further streams.")] = None,
    method: Annotated[
        str, typer.Option(help="Of none, bn, tent, eta, cema, driftwell; commas between.")
    ] = "none,bn,tent,eta,cema",
    transport: Annotated[
        str, typer.Option(help="mqtt (processes and a broker) or inprocess (in memory).")
    ] = "mqtt",
    broker: Annotated[
        str, typer.Option(help="With mqtt: amqtt, mosquitto, or the URL of a running broker.")
    ] = "amqtt",
    pace: Annotated[
        str, typer.Option(help="lockstep, max, or rate:N images a second.")
    ] = "lockstep",
    protocol: Annotated[
        str, typer.Option(help="reset: anew for each stream; continual: one after the other.")
    ] = "reset",
    batch: Annotated[int, typer.Option(min=1, help="Images a batch.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the replay.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of edge and cloud each.")] = 1,
    record: Annotated[
        Path | None, typer.Option(help="Record each run that has a cloud to this .mcap file.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    edge_set: Annotated[list[str] | None, typer.Option(help="Edge setting key=value.")] = None,
    cloud_set: Annotated[list[str] | None, typer.Option(help="Cloud setting key=value.")] = None,
) -> None:
    """Answer streams batch by batch, predict first and adapt after, and report accuracy and cost.

    Example: driftwell bench stream --edge bundles/edge --foundation bundles/foundation
    --stream fog.npz snow.npz --method none,bn,cema --transport inprocess
    """
    from driftwell.edge.pace import parse_pace
    from driftwell.tools.bench.plan import ALL_METHODS, Plan, Protocol, Transport
    from driftwell.tools.bench.results import Result, as_json, as_table
    from driftwell.tools.bench.stream import run_bench

    methods = tuple(name.strip() for name in method.split(","))
    for name in methods:
        _require(name, ALL_METHODS, "--method")
    parse_pace(pace)
    plan = Plan(
        edge=edge,
        foundation=foundation,
        streams=(*first, *(more or ())),
        methods=methods,
        transport=cast("Transport", _require(transport, ("mqtt", "inprocess"), "--transport")),
        broker=broker,
        pace=pace,
        protocol=cast("Protocol", _require(protocol, ("reset", "continual"), "--protocol")),
        batch=batch,
        seed=seed,
        threads=threads,
        edge_assignments=tuple(edge_set or ()),
        cloud_assignments=tuple(cloud_set or ()),
        record=record,
    )
    _require_recordings(plan)
    _require(format_, ("table", "json"), "--format")
    configure_logs("warning", as_json=False)  # the daemons of an in-process run would drown it
    progress = Console(stderr=True, highlight=False)
    total = len(methods) * (len(plan.streams) if protocol == "reset" else 1)
    results: list[Result] = []

    def announce(name: str, running: str) -> None:
        progress.print(f"[{len(results) + 1}/{total}] {name}: {running} …", end=" ")

    for result in run_bench(plan, announce):
        results.append(result)
        progress.print(f"{result.accuracy:.2f} %")
    if format_ == "json":
        sys.stdout.write(as_json(results) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 140).print(as_table(results))


def _require_recordings(plan: "Plan") -> None:
    """Say before the first run, not after it, that there is nothing to record or no place."""
    if plan.record is None:
        return
    if not plan.cloud_methods:
        raise SettingsError("--record needs a method with a cloud, such as --method cema")
    streams = ["continual"] if plan.protocol == "continual" else [s.stem for s in plan.streams]
    for path in (plan.recording_of(s, m) for s in streams for m in plan.cloud_methods):
        if path is not None and path.exists():
            raise SettingsError(f"{path} is there already; choose another --record")


def _require(value: str, known: tuple[str, ...], option: str) -> str:
    if value not in known:
        raise SettingsError(f"{option} {value!r} is not known; use one of {', '.join(known)}")
    return value
