"""`driftwell cloud`: run the consumer, and ask about what it keeps."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from driftwell.cloud.settings import DEFAULT_METHOD, CloudSettings, method_document
from driftwell.messages.errors import SettingsError
from driftwell.tools.cli.edge import Assignments, Config, Method
from driftwell.tools.configuration import read_settings

app = typer.Typer(help="The cloud consumer: stores, learns, publishes.", no_args_is_help=True)

State = Annotated[Path, typer.Option(help="State folder of the cloud.")]


@app.command("run")
def run(
    *,
    foundation: Annotated[Path | None, typer.Option(help="Bundle of the foundation model.")] = None,
    edge: Annotated[Path | None, typer.Option(help="Bundle of the edge model.")] = None,
    broker: Annotated[
        str | None, typer.Option(help="mqtt\\[s]://\\[user:pw@]host\\[:port]")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Group of devices it serves.")] = None,
    state: Annotated[Path | None, typer.Option(help="State folder: ledger, versions, key.")] = None,
    method: Method = DEFAULT_METHOD,
    seed: Annotated[int | None, typer.Option(help="Seed of the replay [0].")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads for training \\[all cores].")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Prometheus metrics on this loopback port.")
    ] = None,
    config: Config = None,
    assignments: Assignments = None,
) -> None:
    """Learn from what the devices send, and publish versions.

    Example: driftwell cloud run --foundation bundles/foundation --edge bundles/edge
    --broker mqtt://broker.lan --set method.versions.every=6

    Tell the devices the same method: driftwell edge run --method.
    """
    from driftwell.tools.programs import cloud_program, state_home

    settings = read_settings(
        CloudSettings,
        defaults={"method": method_document(method)},
        file=config,
        environment=os.environ,
        prefix="DRIFTWELL_CLOUD_",
        assignments=assignments or (),
        flags={
            "foundation": foundation, "edge": edge, "broker": broker, "group": group,
            "state_dir": state, "seed": seed, "threads": threads, "metrics_port": metrics_port,
        },
    )  # fmt: skip
    if settings.state_dir is None:
        settings = msgspec.structs.replace(
            settings, state_dir=state_home(f"cloud-{settings.group}")
        )
    asyncio.run(cloud_program(settings))


@app.command("key")
def key(state: State) -> None:
    """Print the public key that devices should trust (`driftwell edge run --trust KEY`)."""
    from driftwell.cloud.signing_key import public_key, signing_key

    state.mkdir(parents=True, exist_ok=True)
    typer.echo(public_key(signing_key(state)).hex())


@app.command("versions")
def versions(
    state: State,
    digests: Annotated[
        bool, typer.Option("--digests", help="Only the digest of each version, one a line.")
    ] = False,
) -> None:
    """List the versions a cloud has made, oldest first."""
    from driftwell.cloud.ledger import DATABASE
    from driftwell.cloud.tables import LIST_VERSIONS

    file = state / DATABASE
    if not file.is_file():
        raise SettingsError(f"{state} is not the state folder of a cloud: it has no {DATABASE}")
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        for cohort, version, result in database.execute(LIST_VERSIONS):
            typer.echo(result if digests else f"{cohort} {version} {result}")
