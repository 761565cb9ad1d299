"""Listens to what the demo's devices say of themselves, like any MQTT client of the group."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping

from driftwell.broker import Connection, parse_broker_url
from driftwell.broker.backoff import Backoff
from driftwell.broker.mqtt import MqttConnection
from driftwell.messages.codec import decode_on_topic
from driftwell.messages.errors import WireError
from driftwell.messages.telemetry import Telemetry
from driftwell.messages.topics import Kind, kind_filter
from driftwell.tools.demo.record import Record


@contextlib.asynccontextmanager
async def telemetry_into(
    records: Mapping[str, Record], *, url: str, group: str
) -> AsyncIterator[None]:
    """Keep the traffic counters of the records up to date while the block lasts."""
    connection = MqttConnection(
        settings=parse_broker_url(url),
        client_id=f"driftwell-{group}-_watcher",
        subscriptions=((kind_filter(group, Kind.TELEMETRY), 0),),
        will=None,
        clean=True,
        echo_topic=None,
        backoff=Backoff(),
        uniform=random.uniform,
        clock=time.monotonic,
    )
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(connection.run(), name="watcher:connection"),
            tasks.create_task(_listen(connection, records), name="watcher:listen"),
        ]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


async def _listen(connection: Connection, records: Mapping[str, Record]) -> None:
    async for delivery in connection.deliveries():
        delivery.acknowledge()
        with contextlib.suppress(WireError):  # a look at the fleet must not fail for one message
            _, message = decode_on_topic(delivery.topic, delivery.payload)
            if isinstance(message, Telemetry) and message.device in records:
                record = records[message.device]
                record.bytes_up = message.link.bytes_up
                record.bytes_down = message.link.bytes_down
