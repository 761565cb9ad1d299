"""`driftwell books`: what became of every sample."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from driftwell.messages.errors import SettingsError
from driftwell.tools.books import balance

UNBALANCED = 1


def print_books(
    edge: Annotated[list[Path], typer.Option(help="State folder of a device; repeat for more.")],
    cloud: Annotated[Path, typer.Option(help="State folder of the cloud.")],
) -> None:
    """Check that every selected sample has exactly one fate; exit code 1 if not.

    Example: driftwell books --edge state/cam-1 --cloud state/cloud
    """
    from driftwell.cloud.ledger import read_books as read_cloud
    from driftwell.edge.spool import read_books as read_edge

    cloud_books = read_cloud(_database(cloud, "cloud.sqlite"))
    balanced = True
    for folder in edge:
        device, edge_books = read_edge(_database(folder, "edge.sqlite"))
        entry = balance(device, edge_books, cloud_books.get(device, {}))
        rejected = " ".join(f"{code} {count}" for code, count in entry.rejected.items())
        dropped = " ".join(f"{reason} {count}" for reason, count in entry.dropped.items())
        typer.echo(
            f"{device}: selected {entry.selected} = trained {entry.trained} + rejected "
            f"{sum(entry.rejected.values())}{f' ({rejected})' if rejected else ''} + expired "
            f"{entry.expired} + dropped {sum(entry.dropped.values())}"
            f"{f' ({dropped})' if dropped else ''} + under way {entry.under_way}"
        )
        balanced = balanced and entry.is_balanced
    typer.echo("the books balance" if balanced else "THE BOOKS DO NOT BALANCE")
    if not balanced:
        raise typer.Exit(UNBALANCED)


def _database(folder: Path, name: str) -> sqlite3.Connection:
    file = folder / name
    if not file.is_file():
        raise SettingsError(f"{folder} has no {name}: is it the right state folder?")
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as source:
        snapshot = sqlite3.connect(":memory:")
        source.backup(snapshot)
    return snapshot
