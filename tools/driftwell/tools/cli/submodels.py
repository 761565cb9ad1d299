"""`driftwell modular plan` and `log`: which sub-models devices get, and why."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from driftwell.messages.errors import SettingsError

if TYPE_CHECKING:
    from driftwell.tools.submodels import Proposal


def plan(
    *,
    bundle: Annotated[Path, typer.Option(help="Modular bundle with all its modules.")],
    memory_bytes: Annotated[
        int | None, typer.Option(min=1, help="Peak: parameters, buffers, activations of one image.")
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(min=1e-6, help="Of 16 images, on this machine.")
    ] = None,
    download_bytes: Annotated[int | None, typer.Option(min=1, help="Of all its modules.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Images of the device (.npz with x); default: any.")
    ] = None,
) -> None:
    """Say which modules a device with these limits would get, and measure what they cost.

    Limits that leave room for no sub-model are refused, with the smallest one that exists.

    Example: driftwell modular plan --bundle bundles/modular --memory-bytes 1500000
    """
    import torch

    from driftwell.edge.sources import read_stream
    from driftwell.models.bundle import open_bundle
    from driftwell.tools.submodels import propose

    torch.set_num_threads(1)
    given = {
        "memory_bytes": memory_bytes, "latency_ms": latency_ms, "download_bytes": download_bytes,
    }  # fmt: skip
    limits = {name: float(limit) for name, limit in given.items() if limit is not None}
    if not all(map(math.isfinite, limits.values())):
        raise SettingsError("--latency-ms must be a number; leave it out where there is no limit")
    opened = open_bundle(bundle)
    images = read_stream(data, shape=opened.manifest.input.shape)[0] if data else None
    with Console(stderr=True).status("measuring what modules cost"):
        proposal = propose(opened, limits, images)
    Console().print(_as_table(proposal))


def log(
    state: Annotated[Path, typer.Option(help="State folder of the cloud.")],
) -> None:
    """List each device's sub-model, the modules that have learned, and what was refused.

    Example: driftwell modular log --state ~/.local/state/driftwell/cloud-default
    """
    from driftwell.cloud.modular.registry import (
        read_newest,
        read_refusals,
        read_registry,
        read_submodels,
    )
    from driftwell.messages.signing import read_submodel

    with read_registry(state) as database:
        for stored in read_submodels(database):
            manifest = read_submodel(stored.manifest)
            modules = " ".join(
                ",".join(f"{ref.module}v{ref.version}" for ref in layer)
                for layer in manifest.layers
            )
            costs = " ".join(f"{name}={cost:.6g}" for name, cost in manifest.costs.items())
            typer.echo(f"{stored.device} sub-model {stored.version}: {modules} ({costs})")
        for (layer, module), version in sorted(read_newest(database).items()):
            typer.echo(f"layer {layer} module {module} version {version}")
        for refused in read_refusals(database):
            typer.echo(f"refused {refused.code} {refused.device}: {refused.detail}")


def _as_table(proposal: "Proposal") -> Table:
    plan, measured, whole = proposal.plan, proposal.footprint, proposal.whole
    table = Table(title=f"{sum(map(len, plan.modules))} modules, {plan.method}")
    for column in ("", "sub-model", "limit", "whole model"):
        table.add_column(column, justify="left" if not column else "right")
    limits = plan.limits
    rows = (
        ("peak memory, bytes", measured.peak_bytes, limits.get("memory_bytes"), whole.peak_bytes),
        ("latency, ms", measured.latency_ms, limits.get("latency_ms"), whole.latency_ms),
        ("download, bytes", plan.costs["download_bytes"], limits.get("download_bytes"), None),
        ("parameters", measured.parameters, None, whole.parameters),
    )
    for name, own, limit, full in rows:
        table.add_row(name, *("" if one is None else f"{one:,.10g}" for one in (own, limit, full)))
    for number, layer in enumerate(plan.modules):
        table.add_row(f"modules of layer {number}", ", ".join(map(str, sorted(layer))))
    return table
