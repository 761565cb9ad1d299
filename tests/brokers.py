"""Brokers to test against with one face: the fake, amqtt in this process, Mosquitto.

A rig is one broker; whoever joins it is a party. Over a real broker every party has its own
TCP proxy, so that its connection can be cut, or go silent, without touching the others.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.contract.proxy import Proxy

from driftwell.broker import (
    BrokerSettings,
    Connection,
    Delivery,
    Outcome,
    Will,
    parse_broker_url,
)
from driftwell.broker.backoff import Backoff
from driftwell.broker.embedded import EmbeddedBroker
from driftwell.broker.memory import MemoryBroker, MemoryConnection
from driftwell.broker.mosquitto_process import MosquittoProcess, find_mosquitto
from driftwell.broker.mqtt import MqttConnection

LIMIT_S = 5.0  # for anything that should happen at once
SOON = Backoff(first_s=0.02, longest_s=0.2)
RIGS = ("memory", "embedded", "mosquitto")


def require_mosquitto() -> None:
    """Skip the test where there is no Mosquitto to start."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")


async def eventually(condition: Callable[[], bool], within_s: float = LIMIT_S) -> None:
    """Wait until a condition holds; fail if it does not in time."""
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


class Party:
    """One program at a broker, with the means to hurt its connection."""

    def __init__(self, connection: Connection, proxy: Proxy | None) -> None:
        self.connection = connection
        self.proxy = proxy
        self._deliveries = connection.deliveries()
        self.running: asyncio.Task[None] | None = None

    async def receive(self, count: int = 1, within_s: float = LIMIT_S) -> list[Delivery]:
        """The next deliveries, not acknowledged."""
        async with asyncio.timeout(within_s):
            return [await anext(self._deliveries) for _ in range(count)]

    async def take(self, count: int = 1) -> list[tuple[str, bytes]]:
        """The next deliveries, acknowledged: topic and payload of each."""
        deliveries = await self.receive(count)
        for delivery in deliveries:
            delivery.acknowledge()
        return [(delivery.topic, delivery.payload) for delivery in deliveries]

    async def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish, and insist that the broker takes it."""
        answer = await self.connection.publish(topic, payload, qos=qos, retain=retain)
        assert answer.outcome is Outcome.ACKED, answer

    async def drop(self) -> None:
        """Lose the connection without a goodbye, and wait until that is known."""
        epoch = self.connection.epoch
        if isinstance(self.connection, MemoryConnection):
            self.connection.drop()
        else:
            assert self.proxy is not None
            self.proxy.cut()
        await eventually(lambda: not self.connection.is_connected or self.connection.epoch > epoch)

    async def leave(self) -> None:
        """End the program in good order."""
        assert self.running is not None
        self.running.cancel()
        await asyncio.wait({self.running}, timeout=LIMIT_S)


class Rig(ABC):
    """One broker, and a factory of parties."""

    is_mqtt_5 = False

    def __init__(self, group: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
        self._group = group
        self._stack = stack
        self._parties: list[Party] = []

    async def join(
        self,
        client_id: str,
        *filters: str,
        will: Will | None = None,
        clean: bool = True,
        wait: bool = True,
        settings: BrokerSettings | None = None,
        backoff: Backoff = SOON,
    ) -> Party:
        """Start a program that subscribes with QoS 1, and wait until it is connected."""
        party = await self._party(
            settings=settings or parse_broker_url("mqtt://localhost"),
            client_id=client_id,
            subscriptions=tuple((topic_filter, 1) for topic_filter in filters),
            will=will,
            clean=clean,
            backoff=backoff,
            uniform=lambda low, high: high,
        )
        party.running = self._group.create_task(party.connection.run())
        self._parties.append(party)
        if wait:
            async with asyncio.timeout(LIMIT_S):
                await party.connection.next_epoch(0)
        return party

    async def close(self) -> None:
        """Send everybody home."""
        for party in self._parties:
            await party.leave()

    @abstractmethod
    async def stop(self) -> None:
        """Stop the broker."""

    @abstractmethod
    async def start(self) -> None:
        """Start the broker again, where it was."""

    @abstractmethod
    def hold_acks(self, party: Party) -> None:
        """Let the broker take what a party publishes, and not answer."""

    @abstractmethod
    async def _party(self, **wishes: Any) -> Party:
        """Make a party that is not yet at home."""


class MemoryRig(Rig):
    """The fake."""

    def __init__(self, group: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
        super().__init__(group, stack)
        self.broker = MemoryBroker()

    async def stop(self) -> None:
        self.broker.stop()

    async def start(self) -> None:
        self.broker.start()

    def hold_acks(self, party: Party) -> None:
        self.broker.holds_acks = True

    async def _party(self, **wishes: Any) -> Party:
        return Party(MemoryConnection(broker=self.broker, **wishes), None)


class SocketRig(Rig):
    """Any broker behind a port."""

    port = 0

    def hold_acks(self, party: Party) -> None:
        assert party.proxy is not None
        party.proxy.hold_replies()

    async def _party(self, **wishes: Any) -> Party:
        proxy = await self._stack.enter_async_context(Proxy(self.port))
        wishes["settings"] = replace(wishes["settings"], host="127.0.0.1", port=proxy.port)
        wishes["echo_topic"] = f"echo/{wishes['client_id']}"
        return Party(MqttConnection(**wishes, clock=time.monotonic), proxy)


class EmbeddedRig(SocketRig):
    """amqtt in this process."""

    async def start(self) -> None:
        self._running = EmbeddedBroker(port=self.port)
        await self._running.__aenter__()
        self.port = self._running.port

    async def stop(self) -> None:
        await self._running.__aexit__(None, None, None)


class MosquittoRig(SocketRig):
    """Mosquitto with its defaults."""

    is_mqtt_5 = True

    def __init__(self, group: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
        super().__init__(group, stack)
        self.process = MosquittoProcess()

    async def start(self) -> None:
        if self.port:
            await self.process.start()
        else:
            await self.process.__aenter__()
            self._stack.push_async_exit(self.process)
            self.port = self.process.port

    async def stop(self) -> None:
        await self.process.kill()


Open = Callable[[], AbstractAsyncContextManager[Rig]]


@asynccontextmanager
async def open_rig(name: str) -> AsyncIterator[Rig]:
    """The broker of that name, running; everything is gone when the block ends."""
    kinds: dict[str, type[Rig]] = {
        "memory": MemoryRig,
        "embedded": EmbeddedRig,
        "mosquitto": MosquittoRig,
    }
    if name == "mosquitto":
        require_mosquitto()
    try:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            rig = kinds[name](group, stack)
            await rig.start()
            try:
                yield rig
            finally:
                await rig.close()
                await rig.stop()
    except BaseExceptionGroup as errors:
        # A test that fails shows its own error, not the group it was in.
        if len(errors.exceptions) > 1:
            raise
        raise errors.exceptions[0] from None
