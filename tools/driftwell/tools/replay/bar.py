"""A bar on a terminal, for what takes longer than one likes to wait."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.progress import Progress

from driftwell.tools.replay.timeline import Span

PATIENCE_S: Final = 2.0


@contextlib.contextmanager
def progress_bar(
    console: Console, stretch: Span, *, monotonic_s: Callable[[], float]
) -> Iterator[Callable[[int], None]]:
    """Yield what is told how far one is; a bar is there after two seconds."""
    began_s = monotonic_s()
    with contextlib.ExitStack() as shown:
        bar: Progress | None = None

        def show(time_ns: int) -> None:
            nonlocal bar
            if bar is None:
                if not console.is_terminal or monotonic_s() - began_s < PATIENCE_S:
                    return
                bar = shown.enter_context(Progress(console=console, transient=True))
                bar.add_task("replaying", total=stretch.length_s)
            bar.update(bar.task_ids[0], completed=stretch.seconds(time_ns))

        yield show
