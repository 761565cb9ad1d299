"""To a broker: recording, connection, player, commands and the line one looks at."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from driftwell.broker import Connection
from driftwell.messages.errors import BrokerError
from driftwell.tools.replay.controls import STANDARD_INPUT, has_keyboard, listen, raw_keys
from driftwell.tools.replay.outcome import BrokerReplay
from driftwell.tools.replay.pipeline import Pipeline
from driftwell.tools.replay.plan import Wishes, make_plan
from driftwell.tools.replay.player import BrokerWishes, Player
from driftwell.tools.replay.rewriting import UPWARD
from driftwell.tools.replay.tape import Tape
from driftwell.tools.signals import stop_on_signal

GREETING_S: Final = 15.0
"""How long to wait for the first connection; a later one that is lost comes back by itself."""
GOODBYE_S: Final = 1.0
"""How long a replay that is told to stop waits for the broker's last answers."""
LOOK_S: Final = 0.2  # how often the line is drawn


async def broker_program(
    path: Path,
    wishes: Wishes,
    broker_wishes: BrokerWishes,
    *,
    connect: Callable[[], Connection],
    console: Console,
    monotonic_s: Callable[[], float],
    greeting_s: float = GREETING_S,
) -> tuple[BrokerReplay, bool]:
    """Play a recording to a broker; what came of it, and whether a signal ended it.

    Raises:
        DriftwellError: what is wrong with the wishes, the recording or the broker.
    """
    outcome = BrokerReplay()
    with Tape(path) as tape, stop_on_signal() as stopping:
        plan = make_plan(wishes, tape.recording.topics, tape.whole, kinds=UPWARD)
        changed, connection = asyncio.Event(), connect()
        async with asyncio.TaskGroup() as group:
            pipeline = Pipeline(connection, group, changed, outcome)
            tasks = [group.create_task(connection.run()), group.create_task(pipeline.run())]
            await _greet(connection, stopping, greeting_s)
            player = Player(
                tape, plan, broker_wishes, pipeline, changed, outcome, monotonic_s=monotonic_s,
                answer=lambda line: console.print(line, soft_wrap=True, markup=False),
            )  # fmt: skip
            began_s = monotonic_s()
            async with _at_the_controls(player, broker_wishes, console, group):
                await _until(stopping, group.create_task(player.play()))
            outcome.taken_s = monotonic_s() - began_s
            await pipeline.drain(GOODBYE_S)
            for task in tasks:
                task.cancel()
            pipeline.abandon()
    return outcome, stopping.is_set()


async def _greet(connection: Connection, stopping: asyncio.Event, patience_s: float) -> None:
    greeted = asyncio.Task(connection.next_epoch(0), name="greeting")
    stop = asyncio.Task(stopping.wait(), name="stopping")
    try:
        await asyncio.wait({greeted, stop}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        if not greeted.done() and not stop.done():
            raise BrokerError(
                f"no broker answered within {patience_s:g} s; is it running, and is --broker right?"
            )
    finally:
        greeted.cancel()
        stop.cancel()


async def _until(stopping: asyncio.Event, task: asyncio.Task[None]) -> None:
    """Wait for the task, or cancel it when the program is told to stop."""
    stop = asyncio.Task(stopping.wait(), name="stopping")
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        task.cancel()


@contextlib.asynccontextmanager
async def _at_the_controls(
    player: Player, wishes: BrokerWishes, console: Console, group: asyncio.TaskGroup
) -> AsyncIterator[None]:
    has_keys = has_keyboard() and not wishes.takes_lines
    with contextlib.ExitStack() as terminal:
        if has_keys:
            terminal.enter_context(raw_keys(STANDARD_INPUT))
        if has_keys or wishes.takes_lines:
            listen(
                STANDARD_INPUT,
                reads_lines=wishes.takes_lines,
                tell=player.tell,
                end=player.tell_no_more,
                complain=lambda text: console.print(text, soft_wrap=True, markup=False),
            )
        else:
            player.tell_no_more()
        if not console.is_terminal:
            yield
            return
        show = terminal.enter_context(_live_line(console))
        drawing = group.create_task(_draw(player, show))
        try:
            yield
        finally:
            drawing.cancel()
            show(player.where())


@contextlib.contextmanager
def _live_line(console: Console) -> Iterator[Callable[[str], None]]:
    with Live(console=console, auto_refresh=False) as live:
        yield lambda line: live.update(Text(line, no_wrap=True), refresh=True)


async def _draw(player: Player, show: Callable[[str], None]) -> None:
    while True:
        show(player.where())
        await asyncio.sleep(LOOK_S)
