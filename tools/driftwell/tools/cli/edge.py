"""`driftwell edge`: run a device."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from driftwell.cloud.settings import DEFAULT_METHOD, edge_document
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.errors import SettingsError
from driftwell.tools.configuration import read_settings

app = typer.Typer(help="The edge daemon: answers, selects, uploads, applies.", no_args_is_help=True)

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as filter.e_max=0.3."),
]
Method = Annotated[str, typer.Option(help="driftwell or cema: the same for devices and cloud.")]
Config = Annotated[Path | None, typer.Option(help="TOML file of settings.")]


@app.command("run")
def run(
    *,
    bundle: Annotated[Path | None, typer.Option(help="Bundle of the edge model.")] = None,
    source: Annotated[str | None, typer.Option(help="npz:FILE, dir:FOLDER or mcap:FILE.")] = None,
    device: Annotated[str | None, typer.Option(help="Name of this device.")] = None,
    broker: Annotated[
        str | None, typer.Option(help="mqtt\\[s]://\\[user:pw@]host\\[:port]")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Group of devices and cloud.")] = None,
    cohort: Annotated[
        str | None, typer.Option(help="Cohort whose state is shared; default: the device alone.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="State folder: spool, position, trusted key.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Samples a batch [64].")] = None,
    pace: Annotated[str | None, typer.Option(help="max, rate:N or lockstep \\[max].")] = None,
    predictions: Annotated[
        str | None, typer.Option(help="none, - (standard output), a file, or mqtt \\[none].")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Record the raw stream and the answers to this .mcap file.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads for inference [1].")] = None,
    trust: Annotated[
        str | None, typer.Option(help="The cloud's public key; default: the first one seen.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Prometheus metrics on this loopback port.")
    ] = None,
    limits: Annotated[
        Path | None,
        typer.Option(help="TOML file of what a modular model may take; looked at every second."),
    ] = None,
    method: Method = DEFAULT_METHOD,
    config: Config = None,
    assignments: Assignments = None,
) -> None:
    """Answer a stream of samples and stay accurate.

    Example: driftwell edge run --bundle bundles/edge --source dir:/var/camera
    --device cam-1 --broker mqtt://broker.lan --predictions -
    """
    from driftwell.tools.cli.summary import print_summary
    from driftwell.tools.programs import edge_program, state_home

    settings = read_settings(
        EdgeSettings,
        defaults=edge_document(method),
        file=config,
        environment=os.environ,
        prefix="DRIFTWELL_EDGE_",
        assignments=assignments or (),
        flags={
            "bundle": bundle, "source": source, "device": device, "broker": broker,
            "group": group, "cohort": cohort, "state_dir": state, "batch": batch, "pace": pace,
            "predictions": predictions, "record": record, "threads": threads, "trust": trust,
            "metrics_port": metrics_port, "limits_file": limits,
        },
    )  # fmt: skip
    if settings.state_dir is None:
        settings = msgspec.structs.replace(settings, state_dir=state_home(settings.device))
    print_summary(asyncio.run(edge_program(settings)))


@app.command("forget")
def forget(
    state: Annotated[Path, typer.Option(help="State folder of the device.")],
) -> None:
    """Go back to the source state: forget versions, sub-models and the trusted key.

    For when the cloud was set up anew, or a device changes hands. The spool is kept, and so are
    fetched modules, which are named by what they hold.

    Example: driftwell edge forget --state ~/.local/state/driftwell/cam-1
    """
    from driftwell.edge.heads import DOMAINS, LAST_HEAD
    from driftwell.edge.modules import SUBMODELS
    from driftwell.edge.spool import DATABASE, forget_names
    from driftwell.edge.trust import TRUSTED_KEY
    from driftwell.models.state_folder import own_folder

    if not (state / DATABASE).is_file():
        raise SettingsError(f"{state} is not the state folder of a device: it has no {DATABASE}")
    with own_folder(state) as folder:
        forget_names(folder, DOMAINS, LAST_HEAD, SUBMODELS, TRUSTED_KEY)
    typer.echo("forgotten: the next start begins from the source state")
