"""A progress bar for work that takes longer than two seconds; lines where there is no terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

PATIENCE_S: Final = 2.0
REDRAW_S: Final = 0.1
LINE_S: Final = 60.0
"""Between two lines where standard error is no terminal."""


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to tell what is done, and what is to do; the bar is on standard error."""
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task(what)
    begun_s = told_s = line_s = time.monotonic()
    is_shown = False

    def tell(done: int, total: int) -> None:
        nonlocal is_shown, told_s, line_s
        now_s = time.monotonic()
        if now_s - told_s < REDRAW_S:
            return
        told_s = now_s
        progress.update(task, completed=done, total=total)
        if not is_shown and now_s - begun_s > PATIENCE_S and progress.console.is_terminal:
            is_shown = True
            progress.start()
        if not progress.console.is_terminal and now_s - line_s > LINE_S:
            line_s = now_s
            progress.console.print(f"{what}: {100 * done / max(1, total):.0f} %")

    try:
        yield tell
    finally:
        if is_shown:
            progress.stop()
