"""Holds what has arrived until the program takes it, and never more than its limit.

One reader, one writer, one event loop. A delivery that does not fit is not taken in: it
stays unacknowledged, so the broker offers it again on the next connection. An empty inbox
takes any delivery, or one larger than the limit could never be delivered at all.
"""

import asyncio
from collections import deque
from typing import Self

from driftwell.broker.connection import Delivery


class Inbox:
    """A queue of deliveries, bounded in bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._items: deque[tuple[Delivery, int]] = deque()
        self._held_bytes = 0
        self._arrived = asyncio.Event()
        self._turned_away = False

    @property
    def wants_redelivery(self) -> bool:
        """Whether something was turned away and there is room for it now.

        The broker does not offer a message twice on one connection, and what it waits to
        see acknowledged fills its window: without a new connection both would wait for ever.
        """
        return self._turned_away and not self._items

    def put(self, delivery: Delivery, size_bytes: int) -> bool:
        """Take one delivery in; False if it does not fit."""
        if self._items and self._held_bytes + size_bytes > self._limit_bytes:
            self._turned_away = self._turned_away or delivery.qos > 0
            return False
        self._items.append((delivery, size_bytes))
        self._held_bytes += size_bytes
        self._arrived.set()
        return True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        # A plain method and not a generator: one that is cancelled can be called again.
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        delivery, size_bytes = self._items.popleft()
        self._held_bytes -= size_bytes
        return delivery

    def renewed(self) -> None:
        """There is a new connection: what was turned away is on its way again."""
        self._turned_away = False
