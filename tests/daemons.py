"""Whole daemons at a broker in memory, and a peer that may say anything."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
from tests import tiny
from tests.brokers import eventually

from driftwell.broker import Connection, Will
from driftwell.broker.memory import MemoryBroker, MemoryConnection
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.service import run_cloud
from driftwell.cloud.settings import CloudSettings, MethodSettings, method_document
from driftwell.edge.daemon import Summary, run_edge
from driftwell.edge.device import Device
from driftwell.edge.filter import FilterSettings
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sources import SourceBatch
from driftwell.edge.timing import Clocks
from driftwell.messages.ack import Ack
from driftwell.messages.codec import decode
from driftwell.messages.head import Head
from driftwell.messages.topics import Kind, device_topic
from driftwell.models.bundle import Bundle

CLOCKS = Clocks(wall_ns=lambda: tiny.NOW_NS, monotonic_s=time.monotonic)
WITHIN_S = 20.0


class Tap:
    """A stream that gives what the test puts in, and never ends."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[SourceBatch] = asyncio.Queue()
        self._count = 0

    def give(self, images: int) -> None:
        index = np.arange(self._count, self._count + images, dtype=np.uint64)
        self._count += images
        place = str(self._count).encode()
        self._queue.put_nowait(SourceBatch(tiny.make_images(images), index, place))

    async def batches(self, position: bytes | None) -> AsyncIterator[SourceBatch]:
        while True:
            yield await self._queue.get()


class Site:
    """A broker in memory, the daemons at it, and a peer that may say anything."""

    def __init__(self, folder: Path, group: asyncio.TaskGroup) -> None:
        self.folder = folder
        self.broker = MemoryBroker()
        self.edge = tiny.make_bundle(folder, "edge")
        self.foundation = tiny.make_bundle(folder, "foundation")
        self.stopping = asyncio.Event()
        self.devices: list[Device] = []
        self.consumers: list[Consumer] = []
        self.acks: list[Ack] = []
        self.heads: list[Head] = []
        topics = (device_topic("default", "cam-9", kind) for kind in (Kind.ACK, Kind.HEAD))
        self._peer = MemoryConnection(
            broker=self.broker, client_id="peer", subscriptions=tuple((t, 1) for t in topics)
        )
        self._group = group
        self._tasks = [group.create_task(self._peer.run()), group.create_task(self._listen())]

    async def _listen(self) -> None:
        async for delivery in self._peer.deliveries():
            message = decode(delivery.payload)
            if isinstance(message, Ack):
                self.acks.append(message)
            elif isinstance(message, Head):
                self.heads.append(message)
            delivery.acknowledge()

    async def say(self, kind: Kind, payload: bytes, device: str = "cam-9") -> None:
        await self._peer.next_epoch(0)
        topic = device_topic("default", device, kind)
        await self._peer.publish(topic, payload, qos=1, retain=False)

    async def start_cloud(self) -> Consumer:
        def connect(subscriptions: tuple[tuple[str, int], ...]) -> Connection:
            return MemoryConnection(broker=self.broker, client_id="cloud",
                                    subscriptions=subscriptions, clean=False)  # fmt: skip

        settings = CloudSettings(
            foundation=self.foundation.path, edge=self.edge.path, threads=1,
            state_dir=self.folder / "cloud",
            method=msgspec.convert(method_document("cema"), MethodSettings),
        )  # fmt: skip
        self._group.create_task(
            run_cloud(
                settings, connect=connect, session=tiny.CLOUD_SESSION, stopping=self.stopping,
                wall_ns=CLOCKS.wall_ns, started=self.consumers.append,
            )
        )  # fmt: skip
        await eventually(lambda: len(self.consumers) > 0, WITHIN_S)
        return self.consumers[0]

    async def start_edge(self, bundle: Bundle, tap: Tap | None, **wishes: object) -> Device:
        self.running = self._group.create_task(self._edge(bundle, tap, **wishes))
        count = len(self.devices)
        await eventually(lambda: len(self.devices) > count, WITHIN_S)
        await self.devices[-1].connection.next_epoch(0)
        return self.devices[-1]

    async def _edge(self, bundle: Bundle, tap: Tap | None, **wishes: object) -> Summary:
        def connect(subscriptions: tuple[tuple[str, int], ...], will: Will) -> Connection:
            return MemoryConnection(broker=self.broker, client_id=settings.device,
                                    subscriptions=subscriptions, will=will)  # fmt: skip

        fields: dict[str, object] = {
            "bundle": bundle.path, "source": f"npz:{self.folder / 'stream.npz'}",
            "device": "cam-1", "filter": FilterSettings(e_max=1.0, e_min=0.0), "batch": 32,
            "trust": tiny.PUBLIC_KEY.hex(), **wishes,
        }  # fmt: skip
        settings = msgspec.convert(fields, EdgeSettings)
        settings = msgspec.structs.replace(settings, state_dir=self.folder / settings.device)
        return await run_edge(
            settings, connect=connect, session=tiny.SESSION, clocks=CLOCKS, source=tap,
            stopping=self.stopping, started=self.devices.append,
        )  # fmt: skip

    async def close(self) -> None:
        self.stopping.set()
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def open_site(folder: Path) -> AsyncIterator[Site]:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        site = Site(folder, group)
        try:
            yield site
        finally:
            await site.close()
