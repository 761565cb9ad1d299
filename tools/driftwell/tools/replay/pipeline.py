"""Publishes in order, several messages at once, until the broker has each or refuses it.

What a lost connection leaves in doubt is sent again, with everything after it: the order of
first arrival is the order of the replay, and a message may come twice, as MQTT allows.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import Final

from driftwell.broker import Connection, Outcome, Publication
from driftwell.tools.replay.outcome import BrokerReplay
from driftwell.tools.replay.rewriting import Outgoing

IN_FLIGHT: Final = 64
"""Messages handed over and not answered. The connection itself lets eight out at a time."""
RETRY_S: Final = 1.0
"""How long to wait before offering the broker something again that it did not take."""


@dataclass(slots=True)
class _Flight:
    message: Outgoing
    answer: asyncio.Task[Publication]


class Pipeline:
    """The messages that are on their way."""

    def __init__(
        self,
        connection: Connection,
        group: asyncio.TaskGroup,
        changed: asyncio.Event,
        outcome: BrokerReplay,
        *,
        retry_s: float = RETRY_S,
    ) -> None:
        """Begin with none.

        Args:
            connection: Where they go.
            group: Its tasks are the messages under way.
            changed: Set whenever there is more room.
            outcome: Counts what became of them.
            retry_s: Wait before a message is offered again on the same connection.
        """
        self._connection = connection
        self._group = group
        self._changed = changed
        self._outcome = outcome
        self._retry_s = retry_s
        self._flights: deque[_Flight] = deque()
        self._launched = asyncio.Event()
        self._is_stuck = False

    @property
    def has_room(self) -> bool:
        """Whether `send` may be called."""
        return len(self._flights) < IN_FLIGHT and not self._is_stuck

    @property
    def is_empty(self) -> bool:
        """Whether the broker has answered everything."""
        return not self._flights

    def send(self, message: Outgoing) -> None:
        """Hand one over; there must be room."""
        self._flights.append(self._launch(message))
        self._launched.set()

    async def drain(self, patience_s: float | None) -> None:
        """Wait until the broker has answered everything, but no longer than that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self.is_empty:
                    self._changed.clear()
                    await self._changed.wait()

    def abandon(self) -> None:
        """Give up whatever is not answered."""
        for flight in self._flights:
            flight.answer.cancel()

    async def run(self) -> None:
        """Take the answers, in order, until cancelled."""
        while True:
            if not self._flights:
                self._launched.clear()
                await self._launched.wait()
            flight = self._flights[0]
            answer = await flight.answer
            if answer.outcome is Outcome.SPOOLED:
                await self._send_again()
                continue
            self._flights.popleft()
            self._book(flight.message, answer)
            self._changed.set()

    def _launch(self, message: Outgoing) -> _Flight:
        # Tasks begin in the order they were made, and wait for the window in that order.
        publishing = self._connection.publish(
            message.topic, message.payload, qos=message.qos, retain=message.retain
        )
        return _Flight(message, self._group.create_task(publishing))

    def _book(self, message: Outgoing, answer: Publication) -> None:
        if answer.outcome is Outcome.REFUSED:
            self._outcome.refused[f"broker: {answer.reason}"] += 1
            return
        self._outcome.messages += 1
        self._outcome.payload_bytes += len(message.payload)

    async def _send_again(self) -> None:
        self._is_stuck = True
        epoch = self._connection.epoch
        await asyncio.wait({flight.answer for flight in self._flights})
        if self._connection.is_connected:
            await asyncio.sleep(self._retry_s)
        else:
            await self._connection.next_epoch(epoch)
        again = [
            flight
            for flight in self._flights
            if flight.answer.result().outcome is not Outcome.REFUSED
        ]
        self._outcome.resent += len(again)
        for flight in again:
            flight.answer = self._launch(flight.message).answer
        self._is_stuck = False
        self._changed.set()
