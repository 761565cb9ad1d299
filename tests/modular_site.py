"""A whole device with a modular bundle at a broker in memory, and a cloud that follows a script."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
from tests import modular_pieces, tiny
from tests.brokers import eventually
from tests.daemons import CLOCKS, WITHIN_S, Tap
from tests.modular_pieces import DEVICE, Bundles

from driftwell.broker import Connection, Will
from driftwell.broker.memory import MemoryBroker, MemoryConnection
from driftwell.edge.daemon import run_edge
from driftwell.edge.device import Device
from driftwell.edge.filter import FilterSettings
from driftwell.edge.modules import Modules
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sources import SourceBatch
from driftwell.messages.blob import Arrays, Blob, Fetch
from driftwell.messages.codec import decode, encode
from driftwell.messages.event import Event
from driftwell.messages.state import State
from driftwell.messages.submodel import SubModelManifest
from driftwell.messages.telemetry import Modular, Telemetry
from driftwell.messages.topics import ROUTES, Kind, device_topic
from driftwell.messages.update import ModuleUpdate

Answer = Callable[[Fetch], list[Blob]]
HEARD = (Kind.FETCH, Kind.TELEMETRY, Kind.STATE, Kind.EVENT, Kind.UPDATE)


class LabelledTap(Tap):
    """A stream whose images are labelled by how bright they are."""

    def give(self, images: int) -> None:
        index = np.arange(self._count, self._count + images, dtype=np.uint64)
        self._count += images
        labels = np.arange(images, dtype=np.int64) % len(tiny.CLASSES)
        shown = tiny.make_images(images) // 4 + (50 * labels[:, None, None, None]).astype(np.uint8)
        place = str(self._count).encode()
        self._queue.put_nowait(SourceBatch(shown, index, place, labels=labels))


class ScriptedCloud:
    """Says what the test has it say, answers questions, and writes down what it hears."""

    def __init__(self, broker: MemoryBroker, bundles: Bundles) -> None:
        self.pieces: dict[str, Arrays] = modular_pieces.pieces_of(bundles.cloud)
        self.answer: Answer = lambda fetch: modular_pieces.answer(fetch, self.pieces)
        self.fetches: list[Fetch] = []
        self.readings: list[Modular] = []
        self.states: list[State] = []
        self.events: list[Event] = []
        self.updates: list[ModuleUpdate] = []
        self.connection = MemoryConnection(
            broker=broker,
            client_id="cloud",
            subscriptions=tuple((device_topic("default", DEVICE, kind), 1) for kind in HEARD),
        )

    @property
    def wanted(self) -> list[tuple[int, int]]:
        """Layer and module of each piece in the newest question."""
        return [(want.layer, want.module) for want in self.fetches[-1].wants]

    @property
    def refusals(self) -> list[str]:
        """The codes that were reported."""
        return [event.code for event in self.events if event.event == "refused"]

    async def run(self) -> None:
        """Listen, and answer questions."""
        async for delivery in self.connection.deliveries():
            match decode(delivery.payload):
                case Fetch() as fetch:
                    self.fetches.append(fetch)
                    for blob in self.answer(fetch):
                        await self.say(Kind.BLOB, encode(blob))
                case Telemetry(modular=Modular() as reading):
                    self.readings.append(reading)
                case State() as state:
                    self.states.append(state)
                case Event() as event:
                    self.events.append(event)
                case ModuleUpdate() as update:
                    self.updates.append(update)
                case _:
                    pass
            delivery.acknowledge()

    async def order(self, manifest: SubModelManifest) -> None:
        """Publish a sub-model."""
        await self.say(Kind.SUBMODEL, encode(modular_pieces.make_submodel(manifest)))

    async def say(self, kind: Kind, payload: bytes) -> None:
        """Publish a message to the device."""
        await self.connection.next_epoch(0)
        topic = device_topic("default", DEVICE, kind)
        route = ROUTES[kind]
        await self.connection.publish(topic, payload, qos=route.qos, retain=route.retain)


class ModularSite:
    """Where both are."""

    def __init__(self, folder: Path, bundles: Bundles, group: asyncio.TaskGroup) -> None:
        self.folder = folder
        self.bundles = bundles
        self.broker = MemoryBroker()
        self.cloud = ScriptedCloud(self.broker, bundles)
        self.devices: list[Device] = []
        self.tap = LabelledTap()
        self._group = group
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._tasks = [
            group.create_task(self.cloud.connection.run()),
            group.create_task(self.cloud.run()),
        ]

    @property
    def device(self) -> Device:
        """The one that runs."""
        return self.devices[-1]

    @property
    def modules(self) -> Modules:
        """Its modules."""
        assert self.device.modules is not None
        return self.device.modules

    async def start(self, **wishes: object) -> Device:
        """Start the device; a wish is a setting."""
        fields: dict[str, object] = {
            "bundle": self.bundles.device.path, "source": "npz:none", "device": DEVICE,
            "filter": FilterSettings(e_max=1.0, e_min=0.0), "batch": 32,
            "trust": tiny.PUBLIC_KEY.hex(), "pieces": {"fetch_retry_s": 2.0}, **wishes,
        }  # fmt: skip
        settings = msgspec.convert(fields, EdgeSettings)
        settings = msgspec.structs.replace(settings, state_dir=self.folder / DEVICE)

        def connect(subscriptions: tuple[tuple[str, int], ...], will: Will) -> Connection:
            return MemoryConnection(
                broker=self.broker, client_id=DEVICE, subscriptions=subscriptions, will=will
            )

        async def run(stopping: asyncio.Event) -> None:
            await run_edge(
                settings, connect=connect, session=tiny.SESSION, clocks=CLOCKS, source=self.tap,
                stopping=stopping, started=self.devices.append,
            )  # fmt: skip

        count = len(self.devices)
        self._stopping = asyncio.Event()
        self._running = self._group.create_task(run(self._stopping))
        await eventually(lambda: len(self.devices) > count, WITHIN_S)
        await self.device.connection.next_epoch(0)
        return self.device

    async def stop(self) -> None:
        """Stop the device in good order."""
        self._stopping.set()
        if self._running is not None:
            await self._running

    async def answer(self, images: int = 32) -> None:
        """Have the device answer a batch."""
        batches = self.device.timing.batches
        self.tap.give(images)
        await eventually(lambda: self.device.timing.batches > batches, WITHIN_S)

    async def runs(self, version: int) -> None:
        """Wait until a sub-model runs."""
        await eventually(lambda: self.modules.running == version, WITHIN_S)

    async def close(self) -> None:
        """Stop all."""
        await self.stop()
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def open_modular_site(folder: Path, bundles: Bundles) -> AsyncIterator[ModularSite]:
    """A site, until the test is done with it."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        site = ModularSite(folder, bundles, group)
        try:
            yield site
        finally:
            await site.close()


def expected(bundles: Bundles, chosen: tuple[tuple[int, ...], ...], images: int = 32) -> np.ndarray:
    """What a sub-model of the bundle's own modules answers."""
    network = bundles.cloud.network(chosen)
    logits: np.ndarray = network.logits(tiny.make_images(images))
    return logits


async def logits_of(site: ModularSite) -> np.ndarray:
    """What the device's node answers now, without its statistics in the way."""
    logits: np.ndarray = site.device.node.infer(tiny.make_images(32)).logits
    return logits
