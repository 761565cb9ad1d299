"""Shows how the variants get on: a line each, on standard error."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text


class Lines:
    """A bar for each variant on a terminal; elsewhere a line when one ends."""

    def __init__(self, console: Console, names: Sequence[str], messages: int) -> None:
        """Messages: how many each variant reads."""
        self._console = console
        self._names = names
        self._messages = messages
        self._began_s: dict[int, float] = {}
        self._done = 0
        self._bars: Progress | None = None
        self._tasks: list[TaskID] = []

    def started(self, place: int) -> None:
        """Its clock runs from now on."""
        self._began_s[place] = time.monotonic()
        if self._bars is not None:
            self._bars.start_task(self._tasks[place])

    def came(self, place: int, done: int) -> None:
        """So many messages are done."""
        if self._bars is not None:
            self._bars.update(self._tasks[place], completed=done)

    def ended(self, place: int, *, failed: bool) -> None:
        """It is done, or failed."""
        word = "failed" if failed else "done"
        if self._bars is not None:
            self._bars.update(self._tasks[place], word=word)
            self._bars.stop_task(self._tasks[place])
            return
        self._done += 1
        spent_s = time.monotonic() - self._began_s[place]
        self._console.print(
            Text(f"[{self._done}/{len(self._names)}] {self._names[place]}: {word}, {spent_s:.1f} s")
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[word]}"),
                TimeElapsedColumn(),
                console=self._console,
            )
            self._tasks = [
                self._bars.add_task(name, start=False, total=self._messages, word="")
                for name in self._names
            ]
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
