"""When a program that was started is ready: its log says so."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from driftwell.messages.errors import BrokerError

CLOUD_IS_READY: Final = "cloud.connected"
"""The event a cloud logs when its subscriptions stand: nothing sent to it is lost any more."""
LIMIT_S: Final = 60.0
LOOK_S: Final = 0.05
TAIL: Final = 2000  # characters of a log in an error


async def until_logged(log: Path, event: str, *, has_ended: Callable[[], bool]) -> None:
    """Wait until a program's log holds an event.

    Raises:
        BrokerError: if the program ended before, or did not come that far in a minute.
    """
    try:
        async with asyncio.timeout(LIMIT_S):
            while event not in _read(log):
                if has_ended():
                    raise BrokerError(f"a program ended early; {log} ends:\n{_read(log)[-TAIL:]}")
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise BrokerError(
            f"no {event!r} after {LIMIT_S:.0f} s; {log} ends:\n{_read(log)[-TAIL:]}"
        ) from None


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")
