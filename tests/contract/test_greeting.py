"""Which version of MQTT is spoken, and which refusals end the program."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.brokers import SOON, eventually

from driftwell.broker import parse_broker_url
from driftwell.broker.mqtt import MqttConnection
from driftwell.messages.errors import BrokerError

V5, V311 = 5, 4
WELCOME = {V5: bytes([0x20, 3, 0, 0, 0]), V311: bytes([0x20, 2, 0, 0])}
OLD_REFUSAL = bytes([0x20, 2, 0, 1])  # what a 3.1.1 broker says to a version it does not know
HANG = b""

Answer = Callable[[int], bytes | None]
"""From the version a client speaks to the answer; None closes the connection instead."""


class Greeter:
    """Answers greetings, and lists the versions that were spoken."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heard: list[int] = []
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        greeting = await reader.read(1000)
        version = greeting[greeting.index(b"MQTT") + 4]
        self.heard.append(version)
        answer = self.answer(version)
        if answer is None:
            writer.close()
            return
        writer.write(answer)
        while await reader.read(1000):
            pass
        writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def greeter(answer: Answer) -> AsyncIterator[Greeter]:
    one = Greeter(answer)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        one.cut()
        await server.wait_closed()


@asynccontextmanager
async def connecting(port: int) -> AsyncIterator[MqttConnection]:
    settings = parse_broker_url(f"mqtt://edge:secret@127.0.0.1:{port}")
    connection = MqttConnection(
        settings=replace(settings, connect_timeout_s=0.2),
        client_id="edge",
        subscriptions=(),
        will=None,
        clean=True,
        echo_topic=None,
        backoff=SOON,
        uniform=lambda low, high: high,
        clock=time.monotonic,
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(connection.run())
        yield connection
        running.cancel()


@pytest.mark.parametrize("refusal", [OLD_REFUSAL, HANG, None], ids=["said", "hangs", "closes"])
async def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(refusal: bytes | None) -> None:
    """However it shows that it does not know MQTT 5, and it is asked only once."""
    async with (
        greeter(lambda version: WELCOME[V311] if version == V311 else refusal) as broker,
        connecting(broker.port) as connection,
    ):
        await connection.next_epoch(0)
        broker.cut()
        await connection.next_epoch(1)

        assert broker.heard == [V5, V311, V311]


async def test_a_broker_that_knew_mqtt_5_is_not_degraded_by_an_accident() -> None:
    """One that is being restarted may close a connection without a word."""
    answers: list[bytes | None] = [WELCOME[V5], None, None, HANG, WELCOME[V5]]
    async with (
        greeter(lambda _: answers.pop(0)) as broker,
        connecting(broker.port) as connection,
    ):
        await connection.next_epoch(0)
        broker.cut()
        await connection.next_epoch(1)

        assert set(broker.heard) == {V5}


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (bytes([0x20, 3, 0, 0x86, 0]), "wrong user name or password"),
        (bytes([0x20, 3, 0, 0x87, 0]), "not authorised"),
        (bytes([0x20, 3, 0, 0x85, 0]), "another device or program name"),
    ],
)
async def test_what_trying_again_cannot_mend_ends_the_program(answer: bytes, advice: str) -> None:
    """The text says what to do, and does not show the password."""
    async with greeter(lambda _: answer) as broker:
        with pytest.raises(ExceptionGroup) as errors:
            async with connecting(broker.port) as connection:
                await connection.next_epoch(0)

    [error] = errors.value.exceptions
    assert isinstance(error, BrokerError)
    assert advice in str(error)
    assert f"mqtt://edge:***@127.0.0.1:{broker.port}" in str(error)


async def test_a_busy_broker_is_tried_again() -> None:
    """`Server busy` is not for ever."""
    answers = [bytes([0x20, 3, 0, 0x89, 0]), WELCOME[V5]]
    async with (
        greeter(lambda _: answers.pop(0)) as broker,
        connecting(broker.port) as connection,
    ):
        assert await connection.next_epoch(0) == 1


async def test_cancelled_while_it_connects_it_ends_at_once() -> None:
    """Neither a socket nor a task is left behind."""
    async with greeter(lambda _: HANG) as broker:
        async with connecting(broker.port) as connection:
            await eventually(lambda: broker.heard == [V5])
            began = time.monotonic()

        assert time.monotonic() - began < 0.15
        assert connection.epoch == 0
