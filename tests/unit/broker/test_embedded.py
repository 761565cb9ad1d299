"""The broker inside the program: where it corrects amqtt, and that it ends."""

import asyncio
import socket

import pytest
from tests.brokers import Rig, eventually, open_rig

from driftwell.broker import Will, parse_broker_url
from driftwell.broker.backoff import Backoff
from driftwell.broker.embedded import EmbeddedBroker
from driftwell.messages.errors import BrokerError

pytestmark = pytest.mark.integration

GREETING = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x01\x00\x03raw"  # keepalive: one second


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GREETING)
    assert await reader.readexactly(4) == bytes([0x20, 2, 0, 0])
    return reader, writer


async def ends(reader: asyncio.StreamReader, within_s: float = 5.0) -> bool:
    """Whether the broker closes the connection in time."""
    try:
        async with asyncio.timeout(within_s):
            while await reader.read(1000):
                pass
    except ConnectionResetError:
        pass
    return True


async def test_it_finds_a_free_port_and_says_which() -> None:
    """Two of them do not disturb each other."""
    async with EmbeddedBroker() as one, EmbeddedBroker() as other:
        assert one.port != other.port != 0
        assert one.url == f"mqtt://127.0.0.1:{one.port}"
        assert parse_broker_url(one.url).port == one.port


async def test_a_port_in_use_is_named() -> None:
    """The text says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"127\.0\.0\.1:{port}.*another port"):
            async with EmbeddedBroker(port=port):
                pass


async def test_nothing_is_left_when_it_has_ended() -> None:
    """No task, and no connection: neither of clients that talk nor of those that do not."""
    before = asyncio.all_tasks()
    async with EmbeddedBroker() as broker:
        silent, silent_writer = await asyncio.open_connection("127.0.0.1", broker.port)
        talking, talking_writer = await connected(broker.port)

    assert await ends(silent)
    assert await ends(talking)
    silent_writer.close()
    talking_writer.close()
    await eventually(lambda: asyncio.all_tasks() == before)


async def test_it_can_start_again_at_the_same_port() -> None:
    """At once, although clients were connected."""
    async with EmbeddedBroker() as broker:
        _, writer = await connected(broker.port)
    async with EmbeddedBroker(port=broker.port) as again:
        _, other = await connected(again.port)
        other.close()
    writer.close()


async def test_a_silent_newcomer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects must greet within a limit."""
    monkeypatch.setattr("driftwell.broker.embedded.GREETING_LIMIT_S", 0.05)
    async with EmbeddedBroker() as broker:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        writer.write(GREETING[:5])

        assert await ends(reader)
        writer.close()


async def test_a_client_that_vanished_is_let_go() -> None:
    """After one and a half keepalives; nobody else notices."""
    async with EmbeddedBroker() as broker:
        reader, writer = await connected(broker.port)

        assert await ends(reader, within_s=3.0)
        writer.close()


@pytest.mark.parametrize(
    ("junk", "within_s"),
    [
        (b"\x30\x80\x80\x80\x01" + bytes(1000), 1.0),  # a PUBLISH of two million bytes
        (b"\x00\x00", 1.0),
        (GREETING, 1.0),
        # amqtt throws the packet away and waits for the next one, until the keepalive ends.
        (b"\x30\xff\xff\xff\xff\xff", 3.0),
    ],
    ids=["too-large", "reserved", "greets-again", "endless-length"],
)
async def test_who_breaks_the_rules_is_let_go(junk: bytes, within_s: float) -> None:
    """And the broker goes on serving the others."""
    async with open_rig("embedded") as rig:
        cloud = await rig.join("cloud", "up/#")
        reader, writer = await connected(_port(rig))
        writer.write(junk)

        assert await ends(reader, within_s)

        writer.close()
        edge = await rig.join("edge")
        await edge.send("up/a", b"1")
        assert await cloud.take() == [("up/a", b"1")]


async def test_taking_over_a_persistent_session_works() -> None:
    """The newcomer gets the messages; amqtt would take it for disconnected."""
    async with open_rig("embedded") as rig:
        patient = Backoff(first_s=60.0, longest_s=60.0)
        older = await rig.join("edge", "down/#", clean=False, backoff=patient)

        newer = await rig.join("edge", "down/#", clean=False)

        await eventually(lambda: not older.connection.is_connected)
        cloud = await rig.join("cloud")
        await cloud.send("down/a", b"1")
        assert await newer.take() == [("down/a", b"1")]


async def test_stopping_is_no_accident_of_the_clients() -> None:
    """Nobody is told that the others were lost."""
    async with open_rig("embedded") as rig:
        will = Will("state/edge", b"lost", qos=1, retain=False)
        edge = await rig.join("edge", will=will)
        for number in range(5):
            await rig.join(f"between-{number}")
        cloud = await rig.join("cloud", "state/#")

        await rig.stop()
        await eventually(
            lambda: not (cloud.connection.is_connected or edge.connection.is_connected)
        )

        assert cloud.connection.traffic.bytes_down == 0
        await rig.start()


async def test_a_slow_acknowledgement_holds_up_nobody() -> None:
    """amqtt would serve a client no further until it has acknowledged what was retained."""
    async with open_rig("embedded") as rig:
        cloud = await rig.join("cloud", "up/#")
        await cloud.send("down/a", b"retained", retain=True)
        edge = await rig.join("edge", "down/#")
        [held] = await edge.receive()
        assert (held.payload, held.retain) == (b"retained", True)

        await edge.send("up/a", b"1")

        [passed_on] = await cloud.receive(within_s=2)
        assert passed_on.payload == b"1"


def _port(rig: Rig) -> int:
    port: int = rig.port  # type: ignore[attr-defined]
    return port
