"""The controls of the fake; what it shares with real brokers is in the contract tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from driftwell.broker import Outcome, Publication
from driftwell.broker.memory import MemoryBroker, MemoryConnection


@asynccontextmanager
async def joined(
    broker: MemoryBroker, client_id: str, *filters: str, clean: bool = True
) -> AsyncIterator[MemoryConnection]:
    connection = MemoryConnection(
        broker=broker,
        client_id=client_id,
        subscriptions=tuple((topic_filter, 1) for topic_filter in filters),
        clean=clean,
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(connection.run())
        async with asyncio.timeout(5):
            await connection.next_epoch(0)
            yield connection
        running.cancel()


async def payloads(connection: MemoryConnection, count: int) -> list[bytes]:
    deliveries = connection.deliveries()
    return [(await anext(deliveries)).payload for _ in range(count)]


async def test_denied_topics_are_refused() -> None:
    """With QoS 1 the publisher is told; with QoS 0 it just vanishes."""
    broker = MemoryBroker()
    broker.deny("up/+/samples")
    async with joined(broker, "cloud", "up/#") as cloud, joined(broker, "edge") as edge:
        told = await edge.publish("up/a/samples", b"1", qos=1, retain=False)
        untold = await edge.publish("up/a/samples", b"2", qos=0, retain=False)
        await edge.publish("up/a/event", b"3", qos=1, retain=False)

        assert told == Publication(Outcome.REFUSED, "denied")
        assert untold == Publication(Outcome.ACKED)
        assert edge.traffic.refused == 1
        assert await payloads(cloud, 1) == [b"3"]


async def test_duplicates_are_delivered_and_counted() -> None:
    """As many as were asked for, QoS 1 only."""
    broker = MemoryBroker()
    broker.duplicate_next(1)
    async with joined(broker, "cloud", "up/#") as cloud, joined(broker, "edge") as edge:
        for number, qos in ((b"0", 0), (b"1", 1), (b"2", 1)):
            await edge.publish("up/a", number, qos=qos, retain=False)

        assert await payloads(cloud, 4) == [b"0", b"1", b"1", b"2"]


async def test_a_held_acknowledgement_was_delivered_all_the_same() -> None:
    """The publisher does not know, and offers it again: that is how duplicates are made."""
    broker = MemoryBroker()
    async with joined(broker, "cloud", "up/#") as cloud, joined(broker, "edge") as edge:
        broker.holds_acks = True
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(edge.publish("up/a", b"1", qos=1, retain=False))
            assert await payloads(cloud, 1) == [b"1"]
            edge.drop()

        assert publishing.result() == Publication(Outcome.SPOOLED, "disconnected")


async def test_a_persistent_session_waits_for_its_client() -> None:
    """What was published in the meantime comes first; a clean session gets nothing."""
    broker = MemoryBroker()
    async with joined(broker, "cloud", "up/#", clean=False), joined(broker, "other", "up/#"):
        pass
    async with joined(broker, "edge") as edge:
        for number in (b"1", b"2"):
            await edge.publish("up/a", number, qos=1, retain=False)
        await edge.publish("up/a", b"lost", qos=0, retain=False)
        async with joined(broker, "cloud", "up/#", clean=False) as cloud:
            assert await payloads(cloud, 2) == [b"1", b"2"]
        async with joined(broker, "other", "up/#") as other:
            await edge.publish("up/a", b"3", qos=1, retain=False)
            assert await payloads(other, 1) == [b"3"]


async def test_a_clean_start_ends_a_persistent_session() -> None:
    """Nothing of it is left for the next one."""
    broker = MemoryBroker()
    async with joined(broker, "cloud", "up/#", clean=False):
        pass
    async with joined(broker, "edge") as edge:
        await edge.publish("up/a", b"old", qos=1, retain=False)
        async with joined(broker, "cloud"):
            pass
        async with joined(broker, "cloud", "up/#", clean=False) as cloud:
            await edge.publish("up/a", b"new", qos=1, retain=False)
            assert await payloads(cloud, 1) == [b"new"]


async def test_stopping_keeps_sessions_and_retained_messages() -> None:
    """Like a broker with persistence, and no will is published."""
    broker = MemoryBroker()
    async with joined(broker, "cloud", "up/#", clean=False) as cloud:
        async with joined(broker, "edge") as edge:
            await edge.publish("up/a", b"1", qos=1, retain=True)
            broker.stop()
            assert not broker.is_up
            assert not cloud.is_connected
            broker.start()
            await cloud.next_epoch(1)

        # Delivered, again because unacknowledged, and as the retained message.
        assert await payloads(cloud, 3) == [b"1"] * 3
        assert broker.retained == {"up/a": b"1"}


async def test_overlapping_subscriptions_deliver_twice() -> None:
    """As Mosquitto does: a program must not subscribe to one topic by two filters."""
    broker = MemoryBroker()
    async with joined(broker, "cloud", "up/#", "up/a") as cloud, joined(broker, "edge") as edge:
        await edge.publish("up/a", b"1", qos=1, retain=False)

        assert await payloads(cloud, 2) == [b"1", b"1"]


async def test_a_session_without_its_client_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the limit is dropped, as brokers do."""
    monkeypatch.setattr("driftwell.broker.memory.QUEUE_LIMIT", 2)
    broker = MemoryBroker()
    async with joined(broker, "cloud", "up/#", clean=False):
        pass
    async with joined(broker, "edge") as edge:
        for number in (b"1", b"2", b"3"):
            await edge.publish("up/a", number, qos=1, retain=False)
        async with joined(broker, "cloud", "up/#", clean=False) as cloud:
            held = await payloads(cloud, 2)
            for delivery in held:
                assert delivery in (b"1", b"2")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await payloads(cloud, 1)
