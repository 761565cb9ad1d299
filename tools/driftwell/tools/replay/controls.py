"""Where commands come from: keys of a terminal, or lines of standard input.

A thread of its own reads, because standard input may be a terminal, a pipe or a file, and
only a thread can wait for all of them. It ends with the program.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

from driftwell.messages.errors import SettingsError
from driftwell.tools.replay.commands import Command, read_keys, read_line

STANDARD_INPUT: Final = 0
BLOCK: Final = 4096
LONGEST_LINE: Final = 1000


def has_keyboard() -> bool:
    """Whether standard input is a terminal that listens to this program."""
    if sys.platform == "win32" or not os.isatty(STANDARD_INPUT):
        return False
    try:
        return os.getpgrp() == os.tcgetpgrp(STANDARD_INPUT)
    except OSError:  # a terminal, but not the one that controls this program
        return False


@contextlib.contextmanager
def raw_keys(descriptor: int) -> Iterator[None]:
    """Let keys arrive at once and unseen; the terminal is as before, whatever happens inside."""
    if sys.platform == "win32":
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def listen(
    descriptor: int,
    *,
    reads_lines: bool,
    tell: Callable[[Command], None],
    end: Callable[[], None],
    complain: Callable[[str], None],
) -> None:
    """Read commands in a thread and tell them in this loop.

    Args:
        descriptor: What to read from.
        reads_lines: Lines; else keys.
        tell: Takes each command.
        end: Called when there will be no more.
        complain: Takes the text of what was wrong with a line.
    """
    loop = asyncio.get_running_loop()

    def take(commands: list[Command], complaints: list[str]) -> None:
        for complaint in complaints:
            complain(complaint)
        for command in commands:
            tell(command)

    def read() -> None:
        held = b""
        # The loop closes when the replay is over, and nobody listens any more.
        with contextlib.suppress(RuntimeError, OSError):
            while block := os.read(descriptor, BLOCK):
                if not reads_lines:
                    loop.call_soon_threadsafe(take, read_keys(block), [])
                    continue
                *lines, held = (held + block).split(b"\n")
                held = held[:LONGEST_LINE]
                loop.call_soon_threadsafe(take, *_understood(lines))
            loop.call_soon_threadsafe(take, *_understood([held] if held else []))
            loop.call_soon_threadsafe(end)

    threading.Thread(target=read, name="commands", daemon=True).start()


def _understood(lines: list[bytes]) -> tuple[list[Command], list[str]]:
    commands, complaints = [], []
    for line in lines:
        text = line.decode(errors="replace")
        if not text:
            continue
        try:
            commands.append(read_line(text))
        except SettingsError as error:
            complaints.append(str(error))
    return commands, complaints
