"""A cloud with a modular model goes on: without a disk, and with questions that make no sense."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests import tiny
from tests.brokers import eventually
from tests.integration.test_modular_cloud import DEVICE, WITHIN_S, open_cloud

from driftwell.broker import Outcome
from driftwell.cloud.metrics import ConsumerCollector
from driftwell.cloud.modular import loops
from driftwell.cloud.modular.registry import read_refusals, read_registry
from driftwell.cloud.modular.tables import StoredSubModel
from driftwell.messages import Fetch, ModelLimits, Want
from driftwell.messages.topics import Kind, device_topic

UNKNOWN = Want(layer=0, module=0, piece="0" * 64)


async def test_a_full_disk_ends_no_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is counted, quarantined or not; what is derived waits for the disk."""
    monkeypatch.setattr(loops, "RETRY_S", 0.05)
    async with open_cloud(tmp_path) as (peer, consumer):
        await eventually(lambda: consumer.keeper is not None, WITHIN_S)
        assert consumer.keeper is not None
        disk = consumer.keeper.registry._database
        disk.execute("PRAGMA query_only = ON")
        await peer.fetch(UNKNOWN)
        await eventually(lambda: consumer.counters["refused:wrong-source"] == 1, WITHIN_S)
        await peer.tell(limits=ModelLimits(memory_bytes=1))
        await eventually(lambda: consumer.counters["refused:infeasible-budget"] == 1, WITHIN_S)
        await peer.tell()
        disk.execute("PRAGMA query_only = OFF")
        await peer.tell()
        await eventually(lambda: len(peer.submodels) == 1, WITHIN_S)

        with read_registry(tmp_path / "cloud") as database:
            assert read_refusals(database) == []


async def test_a_broker_that_is_away_is_asked_for_one_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' sub-models wait with it, and are not read and encoded for nothing."""
    tried: list[str] = []

    async def publish(_consumer: object, _connection: object, topic: str, *_: object) -> Outcome:
        tried.append(topic)
        await asyncio.sleep(0)
        return Outcome.SPOOLED

    monkeypatch.setattr(loops, "RETRY_S", 0.02)
    async with open_cloud(tmp_path) as (_, consumer):
        await eventually(lambda: consumer.keeper is not None, WITHIN_S)
        assert consumer.keeper is not None
        monkeypatch.setattr(loops, "publish", publish)
        for device in ("cam-1", "cam-2"):
            consumer.keeper.registry.put_submodel(StoredSubModel(device, 1, b"", bytes(64)))
        consumer.keeper.unpublished |= {"cam-1", "cam-2"}
        await eventually(lambda: len(tried) > 2, WITHIN_S)

        assert consumer.keeper.unpublished == {"cam-1", "cam-2"}
    assert set(tried) == {device_topic("default", "cam-1", Kind.SUBMODEL)}


async def test_a_question_for_many_pieces_that_are_unknown_is_refused_once(tmp_path: Path) -> None:
    """It costs the disk one commit, however many they are; what is known in it is served."""
    async with open_cloud(tmp_path) as (peer, consumer):
        await peer.tell()
        await eventually(lambda: len(peer.submodels) == 1, WITHIN_S)
        ref = peer.submodels[0].layers[0][0]
        known = Want(layer=0, module=ref.module, piece=ref.piece)
        await peer.fetch(*[UNKNOWN] * 300, known)
        await eventually(lambda: consumer.counters["pieces-served"] == 1, WITHIN_S)
        await eventually(lambda: consumer.counters["refused:wrong-source"] == 1, WITHIN_S)

        with read_registry(tmp_path / "cloud") as database:
            refused = read_refusals(database)

    assert [(one.device, one.code) for one in refused] == [(DEVICE, "wrong-source")]
    assert "300 of 301" in refused[0].detail


async def test_the_metrics_know_devices_and_modules(tmp_path: Path) -> None:
    """Which sub-model each device has, which version each module, and who waits for pieces."""
    async with open_cloud(tmp_path) as (peer, consumer):
        await peer.tell()
        await eventually(lambda: len(peer.submodels) == 1, WITHIN_S)
        ref = peer.submodels[0].layers[1][0]
        await peer.fetch(Want(layer=1, module=ref.module, piece=ref.piece))
        await eventually(lambda: len(peer.blobs) == 1, WITHIN_S)
        await peer.learned(ref, peer.blobs[0], seq=1)
        await eventually(lambda: consumer.counters["updates-folded"] == 1, WITHIN_S)
        registry = CollectorRegistry()
        registry.register(ConsumerCollector(consumer))
        lines = generate_latest(registry).decode().splitlines()

    assert f'driftwell_cloud_submodel_version{{device="{DEVICE}"}} 1.0' in lines
    assert f'driftwell_cloud_module_version{{layer="1",module="{ref.module}"}} 1.0' in lines
    assert 'driftwell_cloud_module_version{layer="0",module="0"} 0.0' in lines
    assert "driftwell_cloud_module_requests 0.0" in lines


async def test_who_asks_again_and_again_waits_for_its_turn(tmp_path: Path) -> None:
    """A newer question goes to the end of the line, behind the devices that wait."""
    async with open_cloud(tmp_path) as (_, consumer):
        await eventually(lambda: consumer.keeper is not None, WITHIN_S)
        assert consumer.keeper is not None
        for device in ("cam-1", "cam-2", "cam-1"):
            consumer.keeper.take_fetch(
                Fetch(
                    device=device, session=tiny.SESSION, seq=1, clock_ns=tiny.NOW_NS,
                    model=consumer.edge.digest, submodel=1, wants=(UNKNOWN,),
                )
            )  # fmt: skip

        assert list(consumer.keeper.requests) == ["cam-2", "cam-1"]
