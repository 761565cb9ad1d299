"""Heads reach the broker: the newest only, and again until the broker has answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
from tests import tiny
from tests.brokers import eventually
from tests.unit.cloud.test_cohort import feed, make_consumer, run

from driftwell.broker import BrokerSettings
from driftwell.broker.memory import MemoryBroker, MemoryConnection
from driftwell.cloud import loops
from driftwell.cloud.cema import CemaLearner
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.settings import CloudSettings, MethodSettings, method_document
from driftwell.messages.codec import decode
from driftwell.messages.head import Head
from driftwell.messages.signing import read_manifest
from driftwell.messages.topics import Kind, device_topic

TOPIC = device_topic("default", "cam-1", Kind.HEAD)
IMPATIENT = BrokerSettings(host="memory", port=0, ack_timeout_s=0.02)


class Site:
    """A consumer with two versions, its connection, and all heads a device has heard."""

    def __init__(self, consumer: Consumer, broker: MemoryBroker) -> None:
        self.consumer = consumer
        self.broker = broker
        self.connection = MemoryConnection(
            broker=broker, client_id="cloud", subscriptions=(), settings=IMPATIENT
        )
        self.device = MemoryConnection(
            broker=broker, client_id="cam-1", subscriptions=((TOPIC, 1),)
        )
        self.heard: list[int] = []

    async def listen(self) -> None:
        async for delivery in self.device.deliveries():
            head = decode(delivery.payload)
            assert isinstance(head, Head)
            self.heard.append(read_manifest(head.manifest).version)
            delivery.acknowledge()


@asynccontextmanager
async def open_site(folder: Path) -> AsyncIterator[Site]:
    edge, foundation = tiny.make_bundle(folder, "edge"), tiny.make_bundle(folder, "foundation")
    method = msgspec.convert(method_document("cema"), MethodSettings)
    settings = CloudSettings(foundation=foundation.path, edge=edge.path, method=method)
    with closing(Ledger(folder)) as ledger:
        consumer = make_consumer(settings, edge, CemaLearner(foundation, edge, method), ledger)
        feed(consumer, edge, range(1, 8))
        while (work := consumer.next_work()) is not None:
            consumer.commit(work, run(consumer, work))
        site = Site(consumer, MemoryBroker())
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(loop)
                for loop in (site.connection.run(), site.device.run(), site.listen())
            ]
            await site.device.next_epoch(0)
            await site.connection.next_epoch(0)
            yield site
            for task in tasks:
                task.cancel()


async def test_an_old_version_is_not_published_over_a_newer_one(tmp_path: Path) -> None:
    """What was read before a step or a revert made another does not go out after it."""
    async with open_site(tmp_path) as site:
        old, new = list(site.consumer.ledger.versions())

        await loops.publish_version(site.consumer, site.connection, new)
        await loops.publish_version(site.consumer, site.connection, old)
        await loops.publish_version(site.consumer, site.connection, new)
        await eventually(lambda: len(site.heard) == 2)

        assert site.heard == [2, 2]


async def test_a_head_nobody_answered_for_is_published_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connected broker that keeps silent gets the head until it answers, and then no more."""
    monkeypatch.setattr(loops, "RETRY_S", 0.05)
    async with open_site(tmp_path) as site:
        site.broker.holds_acks = True
        publishing = asyncio.Task(loops.head_loop(site.consumer, site.connection))

        await eventually(lambda: len(site.heard) > 2)
        assert site.consumer.unpublished == {"cam-1"}
        site.broker.holds_acks = False
        await eventually(lambda: not site.consumer.unpublished)
        publishing.cancel()

        assert set(site.heard) == {2}


async def test_a_version_is_signed_anew_before_it_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At half of its time, without a new connection; all but its end stays as it was."""
    monkeypatch.setattr(loops, "RETRY_S", 0.02)
    monkeypatch.setattr(loops, "RENEWAL_NS", -1)
    async with open_site(tmp_path) as site:
        consumer = site.consumer
        publishing = asyncio.Task(loops.head_loop(consumer, site.connection))
        await eventually(lambda: len(site.heard) == 1)
        await asyncio.sleep(0.1)
        assert len(site.heard) == 1
        old = consumer.ledger.version("cam-1", 2)

        later_ns = tiny.NOW_NS + 16 * tiny.DAY_NS
        monkeypatch.setattr(consumer.issuer, "_wall_ns", lambda: later_ns)
        await eventually(lambda: len(site.heard) == 2)
        await asyncio.sleep(0.1)
        publishing.cancel()
        assert site.heard == [2, 2]
        new = consumer.ledger.version("cam-1", 2)

    assert old is not None
    assert new is not None
    before, after = read_manifest(old.manifest), read_manifest(new.manifest)
    assert after == msgspec.structs.replace(before, expires_ns=later_ns + 30 * tiny.DAY_NS)
    assert after.expires_ns > before.expires_ns
