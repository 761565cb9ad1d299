"""What `Connection` promises when the connection is lost: the same for all brokers."""

import asyncio
import time
from dataclasses import replace

import pytest
from tests.brokers import Open, eventually
from tests.contract.promises import REDELIVERS

from driftwell.broker import Outcome, Publication, Will, parse_broker_url
from driftwell.broker.backoff import Backoff

SETTINGS = parse_broker_url("mqtt://localhost?keepalive=5")
WILL = Will("home/a/state", b"lost", qos=1, retain=True)


@pytest.mark.parametrize("broker", REDELIVERS, indirect=True)
async def test_what_was_not_acknowledged_comes_again(broker: Open) -> None:
    """After a lost connection a persistent session gets it again, and only it."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "up/#", clean=False)
        edge = await rig.join("edge")
        for number in range(4):
            await edge.send("up/a", str(number).encode())
        first, second, *_ = await cloud.receive(4)
        first.acknowledge()
        second.acknowledge()
        # The acknowledgements are on their way before the connection is cut.
        await edge.send("up/a", b"marker")
        await cloud.receive()

        await cloud.drop()

        again = await cloud.receive(3, within_s=2)
        assert [delivery.payload for delivery in again] == [b"2", b"3", b"marker"]


@pytest.mark.parametrize("broker", REDELIVERS, indirect=True)
async def test_an_acknowledgement_after_the_connection_does_nothing(broker: Open) -> None:
    """It must not acknowledge whatever has the same number on the new connection."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "up/#", clean=False)
        edge = await rig.join("edge")
        await edge.send("up/a", b"1")
        [stale] = await cloud.receive()

        for _ in range(2):
            epoch = cloud.connection.epoch
            await cloud.drop()
            await cloud.connection.next_epoch(epoch)
            stale.acknowledge()

        again = await cloud.receive(2, within_s=2)
        assert [delivery.payload for delivery in again] == [b"1", b"1"]


async def test_a_lost_connection_publishes_the_will(broker: Open) -> None:
    """Whoever vanishes is reported, and the report is retained if so asked."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "home/+/state")
        edge = await rig.join("edge", will=WILL, backoff=Backoff(first_s=60.0, longest_s=60.0))

        await edge.drop()

        assert await cloud.take() == [("home/a/state", b"lost")]
        late = await rig.join("late", "home/+/state")
        assert await late.take() == [("home/a/state", b"lost")]


async def test_a_goodbye_publishes_no_will(broker: Open) -> None:
    """Ending a program in good order is no accident."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "home/+/state")
        edge = await rig.join("edge", will=WILL)

        await edge.leave()

        assert not edge.connection.is_connected
        other = await rig.join("other")
        await other.send("home/a/state", b"marker")
        assert await cloud.take() == [("home/a/state", b"marker")]


async def test_the_same_identifier_again_ends_the_older_connection(broker: Open) -> None:
    """Two programs by one name cannot both be connected: the older one is lost, will and all."""
    async with broker() as rig:
        cloud = await rig.join("cloud", "home/+/state")
        patient = Backoff(first_s=60.0, longest_s=60.0)
        older = await rig.join("edge", "down/#", will=WILL, backoff=patient)
        newer = await rig.join("edge", "down/#", will=WILL)

        assert await cloud.take() == [("home/a/state", b"lost")]
        await eventually(lambda: not older.connection.is_connected)
        await cloud.send("down/a", b"1")
        assert await newer.take() == [("down/a", b"1")]


async def test_it_comes_back_after_the_broker_did(broker: Open) -> None:
    """A new epoch is announced, and the subscriptions stand by then."""
    async with broker() as rig:
        edge = await rig.join("edge", "down/#")
        assert edge.connection.epoch == 1

        await rig.stop()
        await eventually(lambda: not edge.connection.is_connected)
        await rig.start()

        async with asyncio.timeout(5):
            assert await edge.connection.next_epoch(1) == 2
        assert edge.connection.is_connected
        cloud = await rig.join("cloud")
        await cloud.send("down/a", b"1")
        assert await edge.take() == [("down/a", b"1")]
        assert edge.connection.traffic.connects == 2


async def test_a_publish_without_a_broker_stays_with_the_caller(broker: Open) -> None:
    """It is not sent, not lost and not waited for."""
    async with broker() as rig:
        edge = await rig.join("edge")
        await rig.stop()
        await eventually(lambda: not edge.connection.is_connected)

        answer = await edge.connection.publish("up/a", b"1", qos=1, retain=False)

        assert answer == Publication(Outcome.SPOOLED, "not-connected")
        assert edge.connection.traffic.bytes_up == 0
        await rig.start()


async def test_a_disconnect_wakes_whoever_waits_for_an_answer(broker: Open) -> None:
    """Nobody waits for his time limit when the connection is gone already."""
    async with broker() as rig:
        edge = await rig.join("edge")
        rig.hold_acks(edge)
        answers: list[Publication] = []

        async def publish() -> None:
            answers.append(await edge.connection.publish("up/a", b"1", qos=1, retain=False))

        async with asyncio.TaskGroup() as group:
            for _ in range(20):  # more than the window takes
                group.create_task(publish())
            await eventually(lambda: edge.connection.traffic.bytes_up > 0)
            began = time.monotonic()
            await edge.drop()

        assert time.monotonic() - began < 1.0 < SETTINGS.ack_timeout_s
        assert {answer.outcome for answer in answers} == {Outcome.SPOOLED}
        assert {answer.reason for answer in answers} <= {"disconnected", "not-connected"}


async def test_a_missing_answer_ends_at_the_time_limit(broker: Open) -> None:
    """Nobody knows what became of it, so the caller keeps it."""
    async with broker() as rig:
        edge = await rig.join("edge", settings=replace(SETTINGS, ack_timeout_s=0.1))
        rig.hold_acks(edge)

        answer = await edge.connection.publish("up/a", b"1", qos=1, retain=False)

        assert answer == Publication(Outcome.SPOOLED, "timeout")
