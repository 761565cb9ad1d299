"""`driftwell record`: write down what travels over a broker."""

import asyncio
import importlib.metadata
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from driftwell.broker import parse_broker_url
from driftwell.messages.errors import SettingsError
from driftwell.messages.names import require_name
from driftwell.recording.background import BackgroundWriter
from driftwell.recording.ring import EVENTS, Ring
from driftwell.recording.split import ExcerptWriter, Numbered, SplitWriter
from driftwell.recording.writer import RecordingWriter
from driftwell.tools.recorder import Heard, run_recorder
from driftwell.tools.subscriptions import group_filters, separate_filters

BYTES_PER_MB: Final = 1_000_000
SECONDS_PER_MINUTE: Final = 60
ABOUT: Final = "recorder"
"""The document that says where a recording comes from."""


def software() -> str:
    """Name and version of this program, as they stand in a recording."""
    return f"driftwell {importlib.metadata.version('driftwell')}"


def run_record(
    *,
    out: Annotated[Path, typer.Argument(help="File to write, OUT.mcap.")],
    broker: Annotated[
        str, typer.Option(help="mqtt\\[s]://\\[user:pw@]host\\[:port]")
    ] = "mqtt://localhost:1883",
    group: Annotated[str, typer.Option(help="Group of devices and cloud.")] = "default",
    topic: Annotated[
        list[str] | None,
        typer.Option(help="MQTT filter instead of all the group says; repeat for more."),
    ] = None,
    split_mb: Annotated[
        float | None, typer.Option(min=0.1, help="Begin a new file at this size: OUT-0001.mcap …")
    ] = None,
    split_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Begin a new file after so many minutes.")
    ] = None,
    flush_s: Annotated[
        float, typer.Option(min=0.1, help="Seconds that a power cut may cost.")
    ] = 5.0,
    ring_minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Keep so many minutes in memory, write them on an event."),
    ] = None,
    on: Annotated[
        str, typer.Option(help=f"With --ring-minutes: which events. Of {', '.join(EVENTS)}.")
    ] = "drift,reverted",
    after_s: Annotated[
        float, typer.Option(min=0, help="With --ring-minutes: seconds after the event.")
    ] = 10.0,
    no_views: Annotated[
        bool, typer.Option("--no-views", help="Leave out the numbers for Foxglove: less work.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.mcap.")] = False,
) -> None:
    """Record what a group's devices and cloud say to each other, until Ctrl-C.

    Example: driftwell record run.mcap --broker mqtt://broker.lan --split-mb 500
    """
    require_name(group, what="group")
    events = _events(on)
    filters = separate_filters(topic) if topic else group_filters(group)
    begin = partial(
        RecordingWriter,
        software=software(),
        clock_s=time.monotonic,
        flush_s=flush_s,
        views=not no_views,
        overwrite=force,
    )
    origin = json.dumps(
        {"software": software(), "broker": _place(broker), "group": group, "topics": filters}
    )
    writer: ExcerptWriter | SplitWriter
    if ring_minutes is not None:
        if split_mb is not None or split_minutes is not None:
            raise SettingsError("--ring-minutes writes a file an event; leave the --split-… out")
        files = Numbered(out, begin)
        files.documents[ABOUT] = origin
        ring = Ring(keep_s=ring_minutes * SECONDS_PER_MINUTE)
        writer = ExcerptWriter(files, ring, events=events, after_s=after_s, clock_s=time.monotonic)
    else:
        writer = _continuous(out, begin, split_mb, split_minutes)
        writer.add_document(ABOUT, origin)
    heard = asyncio.run(_record(broker, group, filters, BackgroundWriter(writer)))
    _conclude(writer, heard)


def _continuous(
    out: Path,
    begin: Callable[[Path], RecordingWriter],
    split_mb: float | None,
    split_minutes: float | None,
) -> SplitWriter:
    # Without a wish for several files there is one, until its index is full.
    is_split = split_mb is not None or split_minutes is not None
    return SplitWriter(
        Numbered(out, begin, first_plain=not is_split),
        clock_s=time.monotonic,
        limit_bytes=None if split_mb is None else int(split_mb * BYTES_PER_MB),
        limit_s=None if split_minutes is None else split_minutes * SECONDS_PER_MINUTE,
    )


async def _record(
    broker: str, group: str, filters: tuple[str, ...], writer: BackgroundWriter
) -> Heard:
    from driftwell.tools.recorder_link import connect_recorder
    from driftwell.tools.signals import stop_on_signal

    connection = connect_recorder(broker, group, filters, name=secrets.token_hex(4))
    with stop_on_signal() as stopping, _live_line() as show:
        return await run_recorder(
            connection, writer, now_ns=time.time_ns, stopping=stopping, progress=show
        )


@contextmanager
def _live_line() -> Iterator[Callable[[Heard], None] | None]:
    """A line that is drawn anew on a terminal; elsewhere nothing."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield None
        return
    started_s = time.monotonic()
    with Live(Text("waiting for the broker; Ctrl-C ends it"), console=console) as live:

        def show(heard: Heard) -> None:
            elapsed_s = max(time.monotonic() - started_s, 0.1)
            lost = f", {heard.left_out} LEFT OUT" if heard.left_out else ""
            live.update(
                Text(
                    f"{heard.messages} messages, {heard.bytes / BYTES_PER_MB:.1f} MB, "
                    f"{heard.messages / elapsed_s:.0f} a second{lost}; Ctrl-C ends it"
                )
            )

        yield show


def _conclude(writer: ExcerptWriter | SplitWriter, heard: Heard) -> None:
    if isinstance(writer, ExcerptWriter):
        where = f"{len(writer.written)} excerpts written; "
    elif writer.first == writer.path:
        where = f"{writer.path}: "
    else:
        where = f"{writer.first} to {writer.path.name}: "
    typer.echo(
        f"{where}{heard.messages} messages heard, {heard.bytes / BYTES_PER_MB:.1f} MB", err=True
    )
    if heard.left_out:
        typer.echo(
            f"{heard.left_out} of them are NOT recorded: the disk was too slow, or they are no "
            f"recordable messages",
            err=True,
        )


def _events(on: str) -> frozenset[str]:
    events = frozenset(word.strip() for word in on.split(",") if word.strip())
    unknown = events - set(EVENTS)
    if unknown or not events:
        raise SettingsError(f"--on {on!r}: use some of {', '.join(EVENTS)}, commas between")
    return events


def _place(url: str) -> str:
    # Neither name nor password of a user belongs into a file that is handed on.
    settings = parse_broker_url(url)
    return f"{settings.host}:{settings.port}"
