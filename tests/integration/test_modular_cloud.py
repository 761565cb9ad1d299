"""A whole cloud with a modular model, and a peer that speaks for devices over a broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from tests import tiny, tiny_modular
from tests.brokers import eventually
from tests.unit.cloud.modular.keeping import RESOURCES, moved_by, telemetry

from driftwell.broker import Connection
from driftwell.broker.memory import MemoryBroker, MemoryConnection
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.service import run_cloud
from driftwell.cloud.settings import CloudSettings, MethodSettings, method_document
from driftwell.messages import Blob, Fetch, ModelLimits, ModuleUpdate, SubModel, Want
from driftwell.messages.blob import decode_content
from driftwell.messages.codec import Message, decode, encode
from driftwell.messages.digest import digest_arrays, digest_bytes
from driftwell.messages.signing import verify_submodel
from driftwell.messages.submodel import ModuleRef, SubModelManifest
from driftwell.messages.topics import ROUTES, Kind, device_topic
from driftwell.models.bundle import Bundle

DEVICE = "cam-1"
WITHIN_S = 30.0
LIMITS = ModelLimits(memory_bytes=10**9)


class Peer:
    """What speaks for devices: it says what it is told to, and keeps what it hears."""

    def __init__(self, broker: MemoryBroker, bundle: Bundle) -> None:
        topics = tuple(
            (device_topic("default", DEVICE, kind), 1) for kind in (Kind.SUBMODEL, Kind.BLOB)
        )
        self.bundle = bundle
        self.connection = MemoryConnection(broker=broker, client_id="peer", subscriptions=topics)
        self.submodels: list[SubModelManifest] = []
        self.blobs: list[Blob] = []
        self._seq = 0

    async def listen(self) -> None:
        async for delivery in self.connection.deliveries():
            message = decode(delivery.payload)
            if isinstance(message, SubModel):
                self.submodels.append(verify_submodel(message, message.key))
            elif isinstance(message, Blob):
                self.blobs.append(message)
            delivery.acknowledge()

    async def say(self, kind: Kind, message: Message) -> None:
        await self.connection.next_epoch(0)
        topic = device_topic("default", DEVICE, kind)
        route = ROUTES[kind]
        await self.connection.publish(topic, encode(message), qos=route.qos, retain=route.retain)

    async def tell(self, *, submodel: int = 0, limits: ModelLimits = LIMITS) -> None:
        machine = msgspec.structs.replace(RESOURCES, memory_total_bytes=2 * 10**9)
        reading = telemetry(
            self.bundle.digest, DEVICE, submodel=submodel, limits=limits, resources=machine
        )
        await self.say(Kind.TELEMETRY, reading)

    async def fetch(self, *wants: Want) -> None:
        self._seq += 1
        await self.say(
            Kind.FETCH,
            Fetch(
                device=DEVICE, session=tiny.SESSION, seq=self._seq, clock_ns=tiny.NOW_NS,
                model=self.bundle.digest, submodel=1, wants=wants,
            ),
        )  # fmt: skip

    async def learned(self, ref: ModuleRef, content: Blob, *, seq: int) -> None:
        arrays = decode_content(content.data, piece=ref.piece, base=None)
        await self.say(
            Kind.UPDATE,
            ModuleUpdate(
                device=DEVICE, session=tiny.SESSION, seq=seq, clock_ns=tiny.NOW_NS,
                model=self.bundle.digest, module=ref.piece, base_version=ref.version, samples=64,
                importance=0.5, delta=moved_by(arrays, 0.01),
            ),
        )  # fmt: skip


@asynccontextmanager
async def open_cloud(folder: Path) -> AsyncIterator[tuple[Peer, Consumer]]:
    broker = MemoryBroker()
    edge, foundation = tiny_modular.make_modular(folder), tiny.make_bundle(folder, "foundation")
    peer, stopping = Peer(broker, edge), asyncio.Event()
    consumers: list[Consumer] = []

    def connect(subscriptions: tuple[tuple[str, int], ...]) -> Connection:
        return MemoryConnection(
            broker=broker, client_id="cloud", subscriptions=subscriptions, clean=False
        )

    settings = CloudSettings(
        foundation=foundation.path, edge=edge.path, threads=1, state_dir=folder / "cloud",
        method=msgspec.convert(method_document("driftwell"), MethodSettings),
    )  # fmt: skip
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [group.create_task(peer.connection.run()), group.create_task(peer.listen())]
        group.create_task(
            run_cloud(
                settings, connect=connect, session=tiny.CLOUD_SESSION, stopping=stopping,
                wall_ns=lambda: tiny.NOW_NS, started=consumers.append,
            )
        )  # fmt: skip
        await eventually(lambda: len(consumers) > 0, WITHIN_S)
        try:
            yield peer, consumers[0]
        finally:
            stopping.set()
            for task in tasks:
                task.cancel()


async def test_a_device_is_told_what_to_run_and_gets_it(tmp_path: Path) -> None:
    """From a reading to a signed sub-model, from a question to the very pieces it names."""
    async with open_cloud(tmp_path) as (peer, _):
        await peer.tell()
        await eventually(lambda: len(peer.submodels) == 1, WITHIN_S)
        layer = peer.submodels[0].layers[0]
        await peer.fetch(*(Want(layer=0, module=ref.module, piece=ref.piece) for ref in layer))
        await eventually(lambda: len(peer.blobs) == len(layer), WITHIN_S)

    for blob, ref in zip(peer.blobs, layer, strict=True):
        assert (blob.piece, blob.size_bytes) == (ref.piece, len(blob.data))
        assert blob.content == digest_bytes(blob.data)
        assert digest_arrays(decode_content(blob.data, piece=ref.piece, base=None)) == ref.piece


async def test_what_a_device_learned_reaches_the_others(tmp_path: Path) -> None:
    """An update makes a version, which a device behind fetches as a difference."""
    async with open_cloud(tmp_path) as (peer, consumer):
        await peer.tell()
        await eventually(lambda: len(peer.submodels) == 1, WITHIN_S)
        ref = peer.submodels[0].layers[1][0]
        await peer.fetch(Want(layer=1, module=ref.module, piece=ref.piece))
        await eventually(lambda: len(peer.blobs) == 1, WITHIN_S)
        await peer.learned(ref, peer.blobs[0], seq=1)
        await peer.learned(ref, peer.blobs[0], seq=1)
        await eventually(lambda: consumer.counters["updates-repeated"] == 1, WITHIN_S)
        assert consumer.keeper is not None
        newest = consumer.keeper.catalogue.newest((1, ref.module))
        await peer.fetch(Want(layer=1, module=ref.module, piece=newest.piece, have=ref.piece))
        await eventually(lambda: len(peer.blobs) == 2, WITHIN_S)

    whole, difference = peer.blobs
    arrays = decode_content(whole.data, piece=ref.piece, base=None)
    assert newest.number == 1
    assert difference.base == ref.piece
    assert digest_arrays(
        decode_content(difference.data, piece=newest.piece, base=arrays)
    ) == newest.piece  # fmt: skip


async def test_what_cannot_be_served_or_used_costs_nothing(tmp_path: Path) -> None:
    """Unknown pieces, limits that leave no room: counted by code, and the cloud goes on."""
    async with open_cloud(tmp_path) as (peer, consumer):
        await peer.fetch(Want(layer=0, module=0, piece="0" * 64))
        await eventually(lambda: consumer.counters["refused:wrong-source"] == 1, WITHIN_S)
        await peer.tell(limits=ModelLimits(memory_bytes=1))
        await eventually(lambda: consumer.counters["refused:infeasible-budget"] == 1, WITHIN_S)
        await peer.tell()
        await eventually(lambda: len(peer.submodels) == 1, WITHIN_S)

    assert peer.submodels[0].version == 1


async def test_a_cloud_without_modules_refuses_what_is_for_one(tmp_path: Path) -> None:
    """An update for a bundle in one piece is `not-supported`, and counted."""
    folder = tmp_path / "plain"
    folder.mkdir()
    async with open_cloud(folder) as (peer, consumer):
        consumer.keeper = None
        await peer.fetch(Want(layer=0, module=0, piece="0" * 64))
        await eventually(lambda: consumer.counters["refused:not-supported"] == 1, WITHIN_S)
