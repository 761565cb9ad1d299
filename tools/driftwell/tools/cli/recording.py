"""`driftwell recording`: look into recordings, mend, join and export them."""

import dataclasses
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from driftwell.messages.errors import SettingsError
from driftwell.recording.export import export_images, export_npz
from driftwell.recording.form import MAX_TOPICS
from driftwell.recording.inventory import Inventory, take_inventory
from driftwell.recording.merge import merge_recordings
from driftwell.recording.reader import Recording
from driftwell.recording.recovery import Verdict, recover, verify
from driftwell.recording.survey import Losses
from driftwell.tools.cli.progress import progress_bar
from driftwell.tools.cli.record import software

NOT_WHOLE: Final = 1
MB: Final = 1e6
NS: Final = 1e9
SHOWN_GAPS: Final = 10

app = typer.Typer(
    help="Recordings: look into them, mend, join and export them.", no_args_is_help=True
)

Source = Annotated[Path, typer.Argument(help="A recording.")]
Format = Annotated[str, typer.Option("--format", help="text or json.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file that is there.")]


@app.command("info")
def info(path: Source, format_: Format = "text") -> None:
    """Say what a recording holds.

    Example: driftwell recording info run.mcap
    """
    _require_format(format_)
    with Recording(path) as recording, progress_bar("reading") as progress:
        inventory = take_inventory(recording, progress=progress)
    if format_ == "json":
        sys.stdout.write(json.dumps(dataclasses.asdict(inventory), indent=2) + "\n")
    else:
        _print_inventory(inventory)


@app.command("verify")
def verify_command(path: Source, format_: Format = "text") -> None:
    """Read a whole recording and check every sum and length; exit code 1 if it is not whole.

    Example: driftwell recording verify run.mcap
    """
    _require_format(format_)
    with progress_bar("checking") as progress:
        verdict = verify(path, progress=progress)
    if format_ == "json":
        document = {**dataclasses.asdict(verdict), "is_whole": verdict.is_whole}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _print_verdict(path, verdict)
    if not verdict.is_whole:
        raise typer.Exit(NOT_WHOLE)


@app.command("recover")
def recover_command(
    path: Source,
    out: Annotated[Path, typer.Argument(help="The new recording.")],
    *,
    force: Force = False,
) -> None:
    """Save every message of every undamaged chunk into a new recording.

    Example: driftwell recording recover broken.mcap saved.mcap
    """
    with progress_bar("saving") as progress:
        salvage = recover(
            path,
            out,
            software=software(),
            clock_s=time.monotonic,
            overwrite=force,
            progress=progress,
        )
    typer.echo(
        f"{out}: {salvage.messages} messages in {salvage.chunks} chunks saved, "
        f"and {salvage.documents} documents"
    )
    _print_left_out(salvage.left_out)
    _print_losses(salvage.losses)


@app.command("merge")
def merge(
    out: Annotated[Path, typer.Argument(help="The new recording.")],
    paths: Annotated[list[Path], typer.Argument(help="Recordings to join.")],
    *,
    force: Force = False,
) -> None:
    """Join recordings by receive time; the order within each is kept.

    Example: driftwell recording merge all.mcap run-0001.mcap run-0002.mcap
    """
    with progress_bar("joining") as progress:
        merged = merge_recordings(
            paths,
            out,
            software=software(),
            clock_s=time.monotonic,
            overwrite=force,
            progress=progress,
        )
    typer.echo(f"{out}: {merged.messages} messages, {merged.documents} documents")
    _print_left_out(merged.left_out)


@app.command("export")
def export(
    path: Source,
    out: Annotated[Path, typer.Argument(help="File (npz) or empty folder (images).")],
    *,
    to: Annotated[str, typer.Option(help="npz, or images: PNG files and samples.csv.")],
    device: Annotated[
        str | None, typer.Option(help="NAME or GROUP/NAME of a device. Default: the only one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the npz file.")] = False,
) -> None:
    """Write a device's images and answers as files that other programs read.

    Example: driftwell recording export run.mcap cam-1.npz --to npz --device cam-1
    """
    if to not in ("npz", "images"):
        raise SettingsError(f"--to {to!r} is not known; use npz or images")
    if force and to == "images":
        raise SettingsError("--force replaces an npz file only; choose an empty folder for images")
    with Recording(path) as recording, progress_bar("writing") as progress:
        if to == "npz":
            exported = export_npz(recording, out, device=device, overwrite=force, progress=progress)
        else:
            exported = export_images(recording, out, device=device, progress=progress)
    typer.echo(
        f"{out}: {exported.images} images of {exported.device}, from its {exported.source}, "
        f"{'with' if exported.has_labels else 'without'} labels"
    )
    if exported.left_out:
        typer.echo(f"{exported.left_out} messages could not be decoded and are left out", err=True)


def _print_inventory(inventory: Inventory) -> None:
    duration_s = (inventory.end_ns - inventory.start_ns) / NS
    rows = {
        "received": f"{_time(inventory.start_ns)} to {_time(inventory.end_ns)}",
        "duration": f"{duration_s:.1f} s",
        "messages": f"{inventory.messages}, {inventory.payload_bytes / MB:.1f} MB "
        f"({inventory.size_bytes / MB:.1f} MB in the file)",
        "groups": ", ".join(inventory.groups) or "none",
        "devices": ", ".join(f"{name} {count}" for name, count in inventory.devices.items())
        or "none",
        "cohorts": ", ".join(inventory.cohorts) or "none",
        "versions": ", ".join(
            f"{name} {low} to {high}" for name, (low, high) in inventory.versions.items()
        )
        or "none",
        "raw stream": f"{inventory.stream_images} images, {inventory.labelled_images} with label"
        if inventory.stream_images
        else "no",
        "documents": ", ".join(inventory.documents) or "none",
    }
    for name, value in rows.items():
        typer.echo(f"{name:12} {value}")
    table = Table("kind", "messages", "MB", box=None)
    for kind, share in inventory.kinds.items():
        table.add_row(kind, str(share.messages), f"{share.bytes / MB:.3f}")
    Console(highlight=False).print(table)
    for name, text in inventory.documents.items():
        typer.echo(f"\n--- {name}\n{text}")


def _print_verdict(path: Path, verdict: Verdict) -> None:
    typer.echo(
        f"{path}: {verdict.messages} messages in {verdict.chunks} undamaged chunks, "
        f"{verdict.documents} documents, {verdict.size / MB:.1f} MB"
    )
    notes = {
        "the recorder's clock went back": verdict.received_jumps,
        "a sender's clock went back": verdict.sent_jumps,
        "messages that do not decode": verdict.undecodable,
        "places where the index is wrong": verdict.index_faults,
    }
    for what, count in notes.items():
        if count:
            typer.echo(f"{what}: {count}")
    if not verdict.is_closed:
        typer.echo("it was not closed in good order, or its index is damaged")
    _print_losses(verdict.losses)
    if verdict.is_whole:
        typer.echo("it is whole")
    else:
        typer.echo(f"mend it with: driftwell recording recover {path} OUT.mcap")


def _print_left_out(messages: int) -> None:
    if messages:
        typer.echo(
            f"left out: {messages} messages that one recording cannot hold, such as those of "
            f"more than {MAX_TOPICS} topics"
        )


def _print_losses(losses: Losses) -> None:
    if losses.bytes:
        typer.echo(
            f"damaged: {losses.bytes} bytes in {len(losses.gaps)} places, with "
            f"{losses.chunks} chunks that are lost"
        )
    for gap in losses.gaps[:SHOWN_GAPS]:
        typer.echo(f"  byte {gap.offset}, {gap.length} bytes: {gap.why}")
    if len(losses.gaps) > SHOWN_GAPS:
        typer.echo(f"  and {len(losses.gaps) - SHOWN_GAPS} more places")
    if losses.unnamed:
        typer.echo(f"lost: {losses.unnamed} messages whose topic is in a damaged chunk")


def _time(ns: int) -> str:
    try:
        return datetime.fromtimestamp(ns / NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"


def _require_format(format_: str) -> None:
    if format_ not in ("text", "json"):
        raise SettingsError(f"--format {format_!r} is not known; use text or json")
