"""A device and a cloud of a modular model together, over a broker: from its limits to its modules.

Both are whole programs; the broker is in memory.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests import tiny
from tests.brokers import eventually
from tests.modular_pieces import Bundles
from tests.modular_site import ModularSite, open_modular_site

from driftwell.broker import Connection
from driftwell.broker.memory import MemoryConnection
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.service import run_cloud
from driftwell.cloud.settings import CloudSettings, MethodSettings, method_document
from driftwell.messages import blob

WITHIN_S = 30.0
AT_ONCE = {"fleet": {"replan": {"patience_s": 0.5}, "refresh_s": 0.0, "least_images": 16}}


@asynccontextmanager
async def open_fleet(folder: Path, bundles: Bundles) -> AsyncIterator[tuple[ModularSite, Consumer]]:
    """One device's site, with a real cloud in place of the scripted one."""
    foundation = tiny.make_bundle(folder, "foundation")
    settings = msgspec.convert(
        {
            "foundation": foundation.path, "edge": bundles.whole.path, "threads": 1,
            "state_dir": folder / "cloud", "modules": AT_ONCE,
            "method": msgspec.convert(method_document("driftwell"), MethodSettings),
        },
        CloudSettings,
    )  # fmt: skip
    stopping, consumers = asyncio.Event(), list[Consumer]()
    began_s = time.monotonic()
    async with open_modular_site(folder, bundles) as site, asyncio.TaskGroup() as group:
        site.cloud.answer = lambda _: []  # it only writes down what it hears

        def connect(subscriptions: tuple[tuple[str, int], ...]) -> Connection:
            return MemoryConnection(
                broker=site.broker, client_id="keeper", subscriptions=subscriptions, clean=False
            )

        group.create_task(
            run_cloud(
                settings, connect=connect, session=tiny.CLOUD_SESSION, stopping=stopping,
                wall_ns=lambda: tiny.NOW_NS + int(1e9 * (time.monotonic() - began_s)),
                started=consumers.append,
            )
        )  # fmt: skip
        await eventually(lambda: len(consumers) > 0, WITHIN_S)
        try:
            yield site, consumers[0]
        finally:
            stopping.set()


@pytest.mark.parametrize("chunk_bytes", [65_536, 300])
async def test_a_device_follows_its_limits(
    tmp_path: Path, bundles: Bundles, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    """Fallen, it holds a smaller sub-model; risen, it is back, and nothing was fetched for it.

    Whether its pieces come in one chunk or in several.
    """
    monkeypatch.setattr(blob, "CHUNK_BYTES", chunk_bytes)
    limits = tmp_path / "limits.toml"
    limits.write_text("")
    async with open_fleet(tmp_path, bundles) as (site, consumer):
        await site.start(
            trust=None, limits_file=limits, telemetry_every_s=0.2, limits_patience_s=60.0
        )
        await site.answer()
        await eventually(lambda: site.modules.running == 1, WITHIN_S)
        large = site.modules.parts
        fetched = site.device.counters["pieces_bytes"]
        cost = site.modules.costs["memory_bytes"]
        await site.answer()

        limits.write_text(f"memory_bytes = {int(0.9 * cost)}")
        began_s = time.monotonic()
        await eventually(lambda: site.modules.running == 2, WITHIN_S)
        took_s = time.monotonic() - began_s
        await site.answer()
        assert took_s < 10
        assert site.modules.costs["memory_bytes"] <= 0.9 * cost
        assert {part.piece for part in site.modules.parts} < {part.piece for part in large}
        asked = len(site.cloud.fetches)

        limits.write_text(f"memory_bytes = {int(2 * cost)}")
        await eventually(lambda: site.modules.running == 3, WITHIN_S)
        await site.answer()

        assert site.modules.parts == large
        assert site.device.counters["pieces_bytes"] == fetched
        assert len(site.cloud.fetches) == asked
        assert site.device.timing.batches == 4
        assert not any(name.startswith("refused") for name in site.device.counters)
        assert not any(name.startswith("refused") for name in consumer.counters)


async def test_what_a_device_learns_comes_back_as_new_versions(
    tmp_path: Path, bundles: Bundles
) -> None:
    """It trains, the cloud folds, and the device fetches the differences and runs them."""
    async with open_fleet(tmp_path, bundles) as (site, consumer):
        learning = {"enabled": True, "every": 64, "window": 64, "epochs": 1}
        await site.start(trust=None, telemetry_every_s=0.2, learning=learning)
        await site.answer()
        await eventually(lambda: site.modules.running == 1, WITHIN_S)
        whole_bytes = site.device.counters["pieces_bytes"]
        before = site.modules.parts

        await site.answer()
        await eventually(lambda: consumer.counters["updates-folded"] > 0, WITHIN_S)
        await eventually(
            lambda: site.modules.running > 1 and any(p.version for p in site.modules.parts),
            WITHIN_S,
        )
        await site.answer()

        assert [(p.layer, p.module) for p in site.modules.parts] == [
            (p.layer, p.module) for p in before
        ]
        assert site.device.counters["pieces_bytes"] < 2 * whole_bytes
        assert not any(name.startswith("refused") for name in site.device.counters)
        assert not any(name.startswith("refused") for name in consumer.counters)
