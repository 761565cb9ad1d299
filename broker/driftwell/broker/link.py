"""What a program sees of its connection, whichever implementation stands behind it.

Counts connections and bytes, wakes those who wait for the next connection, and holds the
inbox. It knows nothing of sockets or brokers; one event loop only.
"""

import asyncio
from collections.abc import AsyncIterator

from driftwell.broker.connection import Delivery, Outcome, Publication, Traffic
from driftwell.broker.inbox import Inbox


class Link:
    """The state of one program's connection over all the times it was made."""

    def __init__(self, inbox_limit_bytes: int) -> None:
        self._inbox = Inbox(inbox_limit_bytes)
        self._connected = False
        self._renewed = asyncio.Event()
        self._bytes_up = 0
        self._bytes_down = 0
        self._connects = 0
        self._refused = 0
        self._overflowed = 0

    @property
    def epoch(self) -> int:
        """How many times there has been a connection."""
        return self._connects

    @property
    def is_connected(self) -> bool:
        """Whether there is one now."""
        return self._connected

    @property
    def wants_redelivery(self) -> bool:
        """Whether only a new connection brings what did not fit the inbox."""
        return self._inbox.wants_redelivery

    @property
    def traffic(self) -> Traffic:
        """The counters as they stand."""
        return Traffic(
            bytes_up=self._bytes_up,
            bytes_down=self._bytes_down,
            connects=self._connects,
            refused=self._refused,
            overflowed=self._overflowed,
        )

    def dialled(self) -> None:
        """A new connection is being made: before it can deliver anything."""
        self._inbox.renewed()

    def up(self) -> int:
        """The connection is ready, subscriptions and all; returns its epoch."""
        self._connects += 1
        self._connected = True
        self._renewed.set()
        self._renewed = asyncio.Event()
        return self._connects

    def down(self) -> None:
        """The connection is gone."""
        self._connected = False

    async def next_epoch(self, after: int) -> int:
        """Wait for a connection later than `after` and return its epoch."""
        while self._connects <= after:
            await self._renewed.wait()
        return self._connects

    def sent(self, size_bytes: int) -> None:
        """One PUBLISH packet of this size was handed over."""
        self._bytes_up += size_bytes

    def received(self, delivery: Delivery, size_bytes: int) -> None:
        """One PUBLISH packet of this size arrived and brought this delivery."""
        self._bytes_down += size_bytes
        if not self._inbox.put(delivery, size_bytes):
            self._overflowed += 1

    def answer(self, publication: Publication) -> Publication:
        """Count what became of a publish, and return it."""
        if publication.outcome is Outcome.REFUSED:
            self._refused += 1
        return publication

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Every delivery in order of arrival; one reader only."""
        return self._inbox
