"""What `Connection` promises, asked of the fake and of two real brokers alike.

One suite, so that a program tested against the fake has been tested against something that
behaves like a broker. What happens when a connection is lost is in `test_lost_connection`.
"""

import asyncio
from dataclasses import replace

import pytest
from tests.brokers import Open, eventually
from tests.contract.promises import REDELIVERS

from driftwell.broker import Outcome, Publication, parse_broker_url, publish_packet_size

SETTINGS = parse_broker_url("mqtt://localhost?keepalive=5")
SMALL_INBOX = replace(SETTINGS, inbox_limit_bytes=10_000, packet_limit_bytes=5000)


async def test_a_publish_is_acknowledged_and_delivered(broker: Open) -> None:
    """What is acknowledged reaches the subscriber: topic, payload, QoS, not retained."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "home/+/samples")
        edge = await rig.join("edge")

        answer = await edge.connection.publish("home/a/samples", b"12", qos=1, retain=False)

        assert answer == Publication(Outcome.ACKED)
        [delivery] = await cloud.receive()
        assert (delivery.topic, delivery.payload) == ("home/a/samples", b"12")
        assert (delivery.qos, delivery.retain) == (1, False)


async def test_qos_0_is_delivered_too(broker: Open) -> None:
    """A message without any promise arrives on a healthy connection."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "home/#")
        edge = await rig.join("edge")

        await edge.send("home/a/telemetry", b"warm", qos=0)

        assert await cloud.take() == [("home/a/telemetry", b"warm")]


async def test_only_what_was_subscribed_is_delivered(broker: Open) -> None:
    """A topic that no filter selects is not delivered."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "home/+/ack", "home/z/head")
        edge = await rig.join("edge")

        for topic in ("home/a/samples", "home/a/b/ack", "house/a/ack", "home/z/head"):
            await edge.send(topic, b"")

        assert await cloud.take() == [("home/z/head", b"")]


async def test_a_late_subscriber_gets_the_retained_message(broker: Open) -> None:
    """The newest retained message is there for whoever comes later, and says that it is old."""
    async with broker() as rig:
        cloud = await rig.join("cloud")
        await cloud.send("home/a/head", b"1", retain=True)
        await cloud.send("home/a/head", b"2", retain=True)

        edge = await rig.join("edge", "home/a/head")

        [delivery] = await edge.receive()
        assert (delivery.payload, delivery.retain) == (b"2", True)


async def test_an_empty_retained_message_removes_the_old_one(broker: Open) -> None:
    """After it, a late subscriber gets nothing."""
    async with broker() as rig:
        cloud = await rig.join("cloud")
        await cloud.send("home/a/head", b"1", retain=True)
        await cloud.send("home/a/head", b"", retain=True)

        edge = await rig.join("edge", "home/a/head")
        await cloud.send("home/a/head", b"fresh")

        assert await edge.take() == [("home/a/head", b"fresh")]


async def test_a_newcomer_gets_nothing_that_others_subscribed(broker: Open) -> None:
    """Retained messages go to their subscribers only."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "home/#")
        await cloud.send("home/a/state", b"here", retain=True)
        await cloud.take()

        edge = await rig.join("edge", "home/a/ack")
        await cloud.send("home/a/ack", b"1")

        assert await edge.take() == [("home/a/ack", b"1")]


async def test_too_large_is_refused_before_it_is_sent(broker: Open) -> None:
    """The broker would close the connection, again at each attempt."""
    async with broker() as rig:
        edge = await rig.join("edge", settings=replace(SETTINGS, packet_limit_bytes=1000))

        answer = await edge.connection.publish("up/a", bytes(1000), qos=1, retain=False)

        assert answer == Publication(Outcome.REFUSED, "too-large")
        assert (edge.connection.traffic.refused, edge.connection.traffic.bytes_up) == (1, 0)
        await edge.send("up/a", bytes(980))


async def test_what_does_not_fit_the_inbox_is_counted(broker: Open) -> None:
    """It holds what fits, in bytes; the rest is traffic and an overflow, and no delivery."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "up/#", settings=SMALL_INBOX)
        edge = await rig.join("edge")

        for number in range(5):
            await edge.send("up/a", bytes([number]) * 4000)

        await eventually(lambda: cloud.connection.traffic.overflowed == 3)
        size = publish_packet_size("up/a", bytes(4000), 1) + rig.is_mqtt_5
        assert cloud.connection.traffic.bytes_down == 5 * size
        held = await cloud.receive(2)
        assert [delivery.payload[0] for delivery in held] == [0, 1]


@pytest.mark.parametrize("broker", REDELIVERS, indirect=True)
async def test_what_did_not_fit_the_inbox_comes_when_there_is_room(broker: Open) -> None:
    """An emptied inbox asks for a new connection, for the old one brings nothing twice."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "up/#", clean=False, settings=SMALL_INBOX)
        edge = await rig.join("edge")
        for number in range(5):
            await edge.send("up/a", bytes([number]) * 4000)
        await eventually(lambda: cloud.connection.traffic.overflowed == 3)

        seen: set[int] = set()
        while len(seen) < 5:
            [delivery] = await cloud.receive(within_s=2)
            seen.add(delivery.payload[0])
            delivery.acknowledge()

        assert seen == {0, 1, 2, 3, 4}


async def test_order_is_kept(broker: Open) -> None:
    """One publisher's messages arrive in the order in which they were handed over."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "up/#")
        edge = await rig.join("edge")
        payloads = [str(number).encode() for number in range(200)]

        async with asyncio.TaskGroup() as group:
            for payload in payloads:
                group.create_task(edge.send("up/a", payload))
            received = [payload for _ in payloads for _, payload in await cloud.take()]

        assert received == payloads


async def test_traffic_counts_whole_packets(broker: Open) -> None:
    """Both ends count the same bytes; MQTT 5 has one more in every packet."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "up/#")
        edge = await rig.join("edge")
        sizes = [0, 1, 100, 127, 128, 20_000]

        for size in sizes:
            await edge.send("up/a", bytes(size))
        await cloud.take(len(sizes))

        expected = sum(publish_packet_size("up/a", bytes(size), 1) for size in sizes)
        expected += len(sizes) * rig.is_mqtt_5
        assert edge.connection.traffic.bytes_up == cloud.connection.traffic.bytes_down == expected
        assert edge.connection.traffic.bytes_down == cloud.connection.traffic.bytes_up == 0


async def test_a_cancelled_reader_can_go_on_reading(broker: Open) -> None:
    """A time limit around a read loses neither the reader nor a delivery."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "up/#")
        edge = await rig.join("edge")

        with pytest.raises(TimeoutError):
            await cloud.receive(within_s=0.01)

        await edge.send("up/a", b"1")
        assert await cloud.take() == [("up/a", b"1")]
