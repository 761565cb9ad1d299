"""What the terminal shows while the demo runs: a live table, or now and then a line."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from driftwell.tools.demo.performance import Show
from driftwell.tools.demo.record import WINDOW, Record

LINE_EVERY_S: Final = 3.0


@contextlib.contextmanager
def training_progress(console: Console, steps: int) -> Iterator[Callable[[], None]]:
    """A bar over the steps of the training; call what it yields after each."""
    if not console.is_terminal:
        console.print("training the demo's two networks, once (about 15 s)")
        yield lambda: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("training the demo's two networks, once", total=steps)
        yield lambda: progress.advance(task)


@contextlib.contextmanager
def fleet_view(console: Console) -> Iterator[Show]:
    """Yield what shows the records: in place on a terminal, a line every few seconds elsewhere."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda records: live.update(fleet_table(records), refresh=True)


def fleet_table(records: Sequence[Record]) -> Table:
    """The state of every camera."""
    table = Table(title="Three cameras, one cloud, real MQTT", caption=_caption(records))
    table.add_column("camera")
    table.add_column("sees")
    for heading in (
        "images", f"accuracy\n(last {WINDOW})", "without\nadaptation", "uploads",
        "kB up", "kB down", "version",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for record in records:
        table.add_row(*_row(record))
    return table


def progress_line(records: Sequence[Record]) -> str:
    """The same, as short as it goes."""
    parts = []
    for record in records:
        recent = record.recent()
        now = f"{100 * recent[0]:.0f} % (without {100 * recent[1]:.0f} %)" if recent else "starting"
        parts.append(f"{record.camera.weather.name} {record.seen} images {now} v{record.version}")
    return "; ".join(parts)


def _row(record: Record) -> list[str]:
    recent = record.recent()
    if recent is None:
        return [record.camera.name, "starting", "0", "", "", "", "", "", ""]
    adapted, unaided = recent
    in_weather = record.seen > record.camera.shift_at
    colour = "green" if adapted >= unaided else "red"
    return [
        record.camera.name,
        record.camera.weather.name if in_weather else "clear",
        f"{record.seen}/{len(record.camera.labels)}",
        f"[{colour}]{100 * adapted:.0f} %[/]",
        f"{100 * unaided:.0f} %",
        str(record.uploads),
        f"{record.bytes_up / 1e3:.0f}",
        f"{record.bytes_down / 1e3:.0f}",
        str(record.version),
    ]


def _caption(records: Sequence[Record]) -> str:
    if any(record.seen > record.camera.shift_at for record in records):
        return "the weather has changed: the cloud learns from what the cameras are unsure of"
    return "clear so far; the weather changes in the middle of the stream"


class _Lines:
    """Prints a line when enough time has passed since the last."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._due_s = time.monotonic()

    def __call__(self, records: Sequence[Record]) -> None:
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + LINE_EVERY_S
            self._console.print(progress_line(records), soft_wrap=True)
