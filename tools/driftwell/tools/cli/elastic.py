"""`driftwell bench elastic`: sub-models made of modules against one model for everybody."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from driftwell.messages.errors import SettingsError

if TYPE_CHECKING:
    from driftwell.tools.elastic.plan import Plan, Shares
    from driftwell.tools.elastic.results import ElasticResult

CIFAR: Final = "cifar10-jpeg"
RESOURCES: Final = ("memory", "latency", "download")


def elastic(
    *,
    data: Annotated[str, typer.Option(help=f"digits, or {CIFAR}:FILE.npz.")] = "digits",
    devices: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    skew: Annotated[
        str, typer.Option(help="Classes a device sees; with commas between for several.")
    ] = "2",
    method: Annotated[
        str, typer.Option(help="none, local, fedavg, heterofl, driftwell; commas between.")
    ] = "none,local,fedavg,heterofl,driftwell",
    budgets: Annotated[
        list[str] | None,
        typer.Option(
            help="memory=0.2,0.5,1: limits are drawn from these shares of what the full network "
            "needs; likewise latency and download. Repeat for each."
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Adaptation steps; each replaces half of a device's data.")
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"Images of {CIFAR} at most, as many of each class.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of results: runs that are in it are not made again.")
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """Compare methods on a fleet of unlike devices: other classes, other limits.

    Each device has labelled data of a few classes, half of it new in each step, and a budget of
    memory, latency and download. `none`, `local` and `fedavg` run the full network, whatever
    the budget; the column `over budget` counts the devices that could not.

    Example: driftwell bench elastic --data digits --devices 10 --skew 2,5
    """
    from driftwell.tools.elastic.plan import Plan
    from driftwell.tools.elastic.results import as_json
    from driftwell.tools.elastic.tables import as_table

    if format_ not in ("table", "json"):
        raise SettingsError(f"--format {format_!r} is not known; use one of table, json")
    problem, path = _parse_data(data)
    plan = Plan(
        problem=problem,
        methods=tuple(method.split(",")),
        skews=tuple(_parse_skew(one) for one in skew.split(",")),
        seeds=tuple(range(seed, seed + seeds)),
        devices=devices,
        steps=steps,
        path=path,
        limit=limit,
        shares=_parse_budgets(problem, budgets or ()),
    )
    results = _run(plan, out)
    if format_ == "json":
        sys.stdout.write(as_json(results) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 180).print(as_table(results))


def _run(plan: "Plan", out: Path | None) -> "list[ElasticResult]":
    import torch

    from driftwell.tools.bench.results_file import ResultsFile
    from driftwell.tools.elastic.methods import METHODS
    from driftwell.tools.elastic.program import run_bench
    from driftwell.tools.elastic.results import ElasticResult

    torch.set_num_threads(1)  # the networks are small; and results do not depend on the machine
    progress = Console(stderr=True, highlight=False)
    file = None if out is None else ResultsFile(out, ElasticResult)

    def report(line: str) -> None:
        progress.print(line, markup=False)

    try:
        return run_bench(plan, METHODS, report, out=file)
    except KeyboardInterrupt:
        if file is not None:
            progress.print(f"stopped; the same command goes on from {file.path}", markup=False)
        raise


def _parse_data(data: str) -> tuple[str, Path | None]:
    name, _, path = data.partition(":")
    if name == "digits" and not path:
        return "digits", None
    if name == CIFAR and path:
        return "cifar", Path(path)
    raise SettingsError(f"--data {data!r} is not known; use digits, or {CIFAR}:FILE.npz")


def _parse_skew(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"--skew {text!r} is no number of classes") from None


def _parse_budgets(problem: str, budgets: Sequence[str]) -> "Shares":
    from dataclasses import replace

    from driftwell.tools.elastic.problems import PROBLEMS

    shares = PROBLEMS[problem].shares
    for budget in budgets:
        resource, _, values = budget.partition("=")
        try:
            drawn = tuple(float(one) for one in values.split(","))
        except ValueError:
            drawn = ()
        if resource not in RESOURCES or not drawn:
            raise SettingsError(
                f"--budgets {budget!r} is not understood; write {RESOURCES[0]}=0.5,1 (or "
                f"{', '.join(RESOURCES[1:])})"
            )
        shares = replace(shares, **{resource: drawn})
    return shares
