"""The configuration and the access list that are shipped, through a real Mosquitto.

They are started as they are; only ports and paths are replaced.
"""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from tests.brokers import eventually
from tests.contract.proxy import Proxy
from tests.integration.mosquitto_site import REFUSED, open_site, topic

from driftwell.broker import Outcome, Publication, Will
from driftwell.messages.errors import BrokerError
from driftwell.messages.topics import Kind, cohort_head_topic, kind_filter
from driftwell.tools.subscriptions import group_filters

pytestmark = pytest.mark.integration


async def test_mosquitto_reads_every_option() -> None:
    """It starts without an error; its one warning is about the rule that is for everybody."""
    async with open_site() as site:
        warnings = [
            line for line in site.process.log.splitlines() if "Error" in line or "Warning" in line
        ]

    assert len(warnings) <= 1
    assert all("_/head/#" in line or "pattern" in line for line in warnings)


async def test_each_kind_goes_its_way() -> None:
    """A device sends every kind that goes up, and gets every kind that comes down."""
    up = (Kind.STATE, Kind.TELEMETRY, Kind.SAMPLES, Kind.UPDATE, Kind.EVENT, Kind.PREDICTIONS)
    down = (topic("camera-1", Kind.ACK), topic("camera-1", Kind.HEAD))
    cohort = cohort_head_topic("home", "all")
    async with open_site() as site:
        cloud = await site.join("cloud", *(kind_filter("home", kind) for kind in up))
        camera = await site.join("camera-1", *down, cohort)

        for kind in up:
            await camera.send(topic("camera-1", kind), kind.encode())
        for name in (*down, cohort):
            await cloud.send(name, name.encode(), retain=Kind.HEAD in name)

        assert [payload.decode() for _, payload in await cloud.take(len(up))] == list(up)
        assert [name for name, _ in await camera.take(3)] == [*down, cohort]


async def test_a_device_cannot_speak_for_another() -> None:
    """A publish to another's topic is refused with a word, and so is one to its own head."""
    async with open_site() as site:
        cloud = await site.join("cloud", kind_filter("home", Kind.SAMPLES))
        camera = await site.join("camera-1")

        for denied in (
            topic("camera-2", Kind.SAMPLES),
            topic("camera-2", Kind.STATE),
            topic("camera-1", Kind.HEAD),
            topic("camera-1", Kind.ACK),
            cohort_head_topic("home", "all"),
            "driftwell/v1/home/_/samples",
        ):
            answer = await camera.connection.publish(denied, b"mine", qos=1, retain=False)
            assert answer == REFUSED, denied

        await camera.send(topic("camera-1", Kind.SAMPLES), b"marker")
        assert await cloud.take() == [(topic("camera-1", Kind.SAMPLES), b"marker")]


async def test_a_device_cannot_listen_to_another() -> None:
    """Its subscription to all is granted by Mosquitto, and brings only what is its own."""
    async with open_site() as site:
        camera = await site.join("camera-1", "driftwell/#", "#")
        other = await site.join("camera-2", topic("camera-2", Kind.ACK))
        cloud = await site.join("cloud")

        await cloud.send(topic("camera-2", Kind.ACK), b"secret")
        await other.send(topic("camera-2", Kind.SAMPLES), b"secret")
        await other.take()
        await cloud.send(topic("camera-1", Kind.ACK), b"marker")

        first = await camera.take()
        assert first == [(topic("camera-1", Kind.ACK), b"marker")]


async def test_the_recorder_hears_everything_and_changes_nothing() -> None:
    """It gets what goes up, down and to cohorts, and may publish to nobody."""
    cohort = cohort_head_topic("home", "all")
    async with open_site() as site:
        recorder = await site.join("recorder", *group_filters("home"))
        camera, cloud = await site.join("camera-1"), await site.join("cloud")

        for denied in (topic("camera-1", Kind.SAMPLES), topic("camera-1", Kind.ACK), cohort):
            answer = await recorder.connection.publish(denied, b"mine", qos=1, retain=False)
            assert answer == REFUSED, denied
        await camera.send(topic("camera-1", Kind.SAMPLES), b"up")
        await cloud.send(topic("camera-1", Kind.ACK), b"down")
        await cloud.send(cohort, b"to all")

        heard = sorted(await recorder.take(3))
        assert heard == sorted(
            [(topic("camera-1", Kind.SAMPLES), b"up"), (topic("camera-1", Kind.ACK), b"down"),
             (cohort, b"to all")]
        )  # fmt: skip


async def test_a_device_cannot_take_the_identifier_of_another() -> None:
    """The user name is the identifier: the other one stays connected."""
    async with open_site() as site:
        victim = await site.join("camera-1")
        await site.join("camera-2", client_id="camera-1")

        await victim.send(topic("camera-1", Kind.SAMPLES), b"still here")

        assert victim.connection.epoch == 1


async def test_the_will_of_a_device_is_its_own() -> None:
    """Mosquitto publishes a will with the rights of its owner."""
    async with open_site() as site, Proxy(site.tls_port) as proxy:
        cloud = await site.join("cloud", kind_filter("home", Kind.STATE))
        behind = replace(site.settings("camera-1"), port=proxy.port)
        will = Will(topic("camera-1", Kind.STATE), b"lost", qos=1, retain=True)
        await site.join("camera-1", settings=behind, will=will)

        proxy.cut()

        assert await cloud.take() == [(topic("camera-1", Kind.STATE), b"lost")]


async def test_the_announced_packet_limit_is_respected() -> None:
    """A program with a larger limit of its own is told by the broker, and does not send."""
    async with open_site() as site:
        generous = replace(site.settings("cloud"), packet_limit_bytes=10_000_000)
        cloud = await site.join("cloud", settings=generous)

        answer = await cloud.connection.publish(
            topic("camera-1", Kind.ACK), bytes(1_500_000), qos=1, retain=False
        )

        assert answer == Publication(Outcome.REFUSED, "too-large")
        await cloud.send(topic("camera-1", Kind.ACK), bytes(1_400_000))


async def test_a_packet_over_the_limit_closes_the_connection() -> None:
    """Whoever announces more than the limit is not read."""
    greeting = b"\x00\x04MQTT\x04\xc2\x00\x3c\x00\x03raw\x00\x05cloud\x00\x05duolc"
    async with open_site() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.process.port)
        writer.write(bytes([0x10, len(greeting)]) + greeting)
        assert await reader.readexactly(4) == bytes([0x20, 2, 0, 0])

        writer.write(b"\x30\x80\x80\x80\x01")  # a PUBLISH of two million bytes
        writer.write(bytes(1000))

        # Some versions reset the connection, some close it.
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                assert await reader.read() == b""
        writer.close()


async def test_a_wrong_password_ends_the_program() -> None:
    """The operator is told what to do; the broker is not asked again and again."""

    async def guess() -> None:
        async with open_site() as site:
            wrong = replace(site.settings("camera-1"), password="guess")
            await site.join("camera-1", settings=wrong)

    with pytest.raises(BrokerError, match=r"camera-1.*check the user name and password") as error:
        await guess()
    assert "guess" not in str(error.value)


async def test_a_broker_that_cannot_prove_who_it_is_gets_nothing() -> None:
    """It is tried again all the same: a device without the right time must wait for it."""
    async with open_site() as site:
        stranger = replace(site.settings("camera-1"), ca_file=None)
        with capture_logs() as events, pytest.raises(TimeoutError):
            await site.join("camera-1", settings=stranger, within_s=0.3)

        assert len(events) > 1
        assert {event["event"] for event in events} == {"broker.lost"}
        assert all("certificate verify failed" in event["reason"] for event in events)
        assert "Bad" not in site.process.log


async def test_retained_heads_survive_a_restart_in_good_order() -> None:
    """The newest version is there for a device that comes after the restart."""
    async with open_site() as site:
        cloud = await site.join("cloud")
        await cloud.send(topic("camera-1", Kind.HEAD), b"7", retain=True)

        await site.process.stop()
        await eventually(lambda: not cloud.connection.is_connected)
        await site.process.start()

        camera = await site.join("camera-1", topic("camera-1", Kind.HEAD))
        assert await camera.take() == [(topic("camera-1", Kind.HEAD), b"7")]
