"""The recorder: a program that listens, writes down, and never holds up the broker.

Every delivery is acknowledged as soon as it is in memory; a thread writes it. If the disk
cannot keep up, messages are left out and counted. If it fails, the recorder ends; inside
another program it listens on until it is told to stop, and ends with the error then.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from driftwell.broker import Connection, Delivery
from driftwell.messages.topics import ROUTES, Kind
from driftwell.recording.background import BackgroundWriter
from driftwell.recording.form import RecordedMessage, sent_ns
from driftwell.recording.reader import address_of

LOOK_S: Final = 0.2  # how often it looks at the disk's answers, and tells its progress
LONGEST_LINGER: Final = 10
"""Times `linger_s` that it waits at most for silence when it is told to stop."""
MAX_RETAINED: Final = 20_000
"""Topics whose retained message is remembered."""


@dataclass(slots=True)
class Heard:
    """What the recorder has heard so far."""

    messages: int = 0
    bytes: int = 0
    """Of payloads."""
    left_out: int = 0
    """Messages that are not in the recording."""


async def run_recorder(
    connection: Connection,
    writer: BackgroundWriter,
    *,
    now_ns: Callable[[], int],
    stopping: asyncio.Event,
    linger_s: float = 0.5,
    outlives_disk: bool = False,
    progress: Callable[[Heard], None] | None = None,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Heard:
    """Record what is delivered until told to stop, then finish the file.

    Args:
        connection: Subscribed to what is wanted.
        writer: Where it goes; closed at the end.
        now_ns: The clock of receipt, nanoseconds since the Unix epoch.
        stopping: Set when it is time to end.
        linger_s: Seconds of silence that end the recording after that.
        outlives_disk: Whether it goes on when the disk has failed, leaving all out, until it
            is told to stop. So it never takes a program along in the middle of its work.
        progress: Told now and then what was heard.
        pause: Waits so many seconds; by this it listens for silence.

    Raises:
        RecordingError: at the end, if the disk did not take it; what is in the file is whole.
        BrokerError: if the broker will never let it in.
    """
    ear = _Ear(writer, now_ns)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(connection.run()),
                group.create_task(_listen(connection, ear)),
            ]
            while not stopping.is_set() and (outlives_disk or writer.failure is None):
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOOK_S)
                ear.tell(progress)
            if writer.failure is None:
                await _await_silence(ear, linger_s, pause)
            for task in tasks:
                task.cancel()
    finally:
        # Closing waits for the disk, and there is nothing else left to do.
        await asyncio.to_thread(writer.close)
        ear.tell(progress)
    return ear.heard


class _Ear:
    """Takes deliveries and hands them on."""

    def __init__(self, writer: BackgroundWriter, now_ns: Callable[[], int]) -> None:
        self.heard = Heard()
        self._writer = writer
        self._now_ns = now_ns
        self._retained: dict[str, bytes] = {}

    def take(self, delivery: Delivery) -> None:
        if self._is_wanted(delivery):
            received = self._now_ns()
            sent = sent_ns(delivery.payload, received_ns=received)
            message = RecordedMessage(delivery.topic, delivery.payload, received, sent)
            self._writer.write(message)
            self.heard.messages += 1
            self.heard.bytes += len(delivery.payload)
        delivery.acknowledge()

    def tell(self, progress: Callable[[Heard], None] | None) -> None:
        self.heard.left_out = self._writer.left_out
        if progress is not None:
            progress(self.heard)

    def _is_wanted(self, delivery: Delivery) -> bool:
        address = address_of(delivery.topic)
        if address is not None and address.kind is Kind.ECHO:
            return False
        if not delivery.retain and not (address is not None and ROUTES[address.kind].retain):
            return True
        # After a lost connection the broker sends every retained message again, also those that
        # were live when they were heard first.
        digest = hashlib.blake2b(delivery.payload, digest_size=16).digest()
        is_news = self._retained.get(delivery.topic) != digest
        if delivery.topic in self._retained or len(self._retained) < MAX_RETAINED:
            self._retained[delivery.topic] = digest
        return is_news or not delivery.retain


async def _listen(connection: Connection, ear: _Ear) -> None:
    async for delivery in connection.deliveries():
        ear.take(delivery)


async def _await_silence(
    ear: _Ear, linger_s: float, pause: Callable[[float], Awaitable[None]]
) -> None:
    for _ in range(LONGEST_LINGER):
        before = ear.heard.messages
        await pause(linger_s)
        if ear.heard.messages == before:
            return
