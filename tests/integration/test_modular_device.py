"""A device with a modular bundle and its cloud: sub-models come and go, no batch is missed.

All but the cloud is real: daemon, loops, store, wire, and a broker in memory.
"""

from pathlib import Path

import msgspec
import numpy as np
from tests import modular_pieces
from tests.brokers import eventually
from tests.daemons import WITHIN_S
from tests.modular_pieces import Bundles, make_blobs, make_manifest
from tests.modular_site import expected, logits_of, open_modular_site

from driftwell.messages.blob import Blob, Fetch, encode_whole
from driftwell.messages.state import ModelLimits
from driftwell.messages.submodel import ModuleRef

LARGE = ((0, 1, 2), (1, 2, 3))
SMALL = ((0, 4), (1,))


async def test_a_device_fetches_what_it_lacks_and_switches(
    tmp_path: Path, bundles: Bundles
) -> None:
    """It answers by the fallback until then, and tells the cloud what it runs and holds."""
    async with open_modular_site(tmp_path, bundles) as site:
        await site.start(statistics="delivered")
        await site.answer()
        assert site.modules.running == 0

        await site.cloud.order(make_manifest(bundles.cloud, 1, LARGE))
        await site.runs(1)
        assert len(site.device.timing.latency_s) == 0
        await site.answer()

        fallback = {(n, m) for n, layer in enumerate(bundles.cloud.spec.fallback) for m in layer}
        needed = {(n, m) for n, layer in enumerate(LARGE) for m in layer}
        assert set(site.cloud.wanted) == needed - fallback
        np.testing.assert_array_equal(await logits_of(site), expected(bundles, LARGE))
        await eventually(lambda: any(r.submodel == 1 for r in site.cloud.readings), WITHIN_S)
        reading = site.cloud.readings[-1]
        assert [[m for m, held in enumerate(layer) if held] for layer in reading.held] == [
            sorted({m for n, m in needed | fallback | {(0, 5), (1, 5)} if n == layer})
            for layer in range(2)
        ]
        assert reading.images > 0
        assert [len(layer) for layer in reading.importance] == [24, 24]
        assert "modules" in site.cloud.states[0].capabilities
        counters = site.device.counters
        assert counters["submodels_applied"] == 1
        assert counters["pieces_fetched"] == len(needed - fallback)
        assert site.device.timing.batches == 2
        assert site.cloud.events == []


async def test_limits_change_while_it_runs(tmp_path: Path, bundles: Bundles) -> None:
    """Halved: smaller at once, then as the cloud plans. Raised: back, with nothing fetched."""
    limits = tmp_path / "limits.toml"
    limits.write_text("memory_bytes = 9000")
    async with open_modular_site(tmp_path, bundles) as site:
        await site.start(limits_file=limits, limits_patience_s=60.0)
        await site.cloud.order(make_manifest(bundles.cloud, 1, LARGE))
        await site.runs(1)
        assert site.modules.limits.memory_bytes == 9000
        asked = len(site.cloud.fetches)

        limits.write_text("memory_bytes = 4500")
        await site.runs(0)
        await site.answer()
        await eventually(lambda: site.cloud.readings[-1].limits.memory_bytes == 4500, WITHIN_S)
        await site.cloud.order(make_manifest(bundles.cloud, 2, SMALL))
        await site.runs(2)
        await site.answer()
        assert len(site.cloud.fetches) == asked + 1
        assert site.cloud.wanted == [(0, 4)]

        limits.write_text("memory_bytes = 9000")
        await eventually(lambda: site.cloud.readings[-1].limits.memory_bytes == 9000, WITHIN_S)
        await site.cloud.order(make_manifest(bundles.cloud, 3, LARGE))
        await site.runs(3)
        await site.answer()

        assert len(site.cloud.fetches) == asked + 1
        assert site.device.timing.batches == 3


async def test_limits_that_are_lifted_are_told(tmp_path: Path, bundles: Bundles) -> None:
    """Readings name what is limited; that something is not any more, only a birth document can."""
    limits = tmp_path / "limits.toml"
    limits.write_text("memory_bytes = 9000")
    async with open_modular_site(tmp_path, bundles) as site:
        await site.start(limits_file=limits)
        limits.write_text("")
        await eventually(
            lambda: bool(site.cloud.states) and site.cloud.states[-1].model_limits == ModelLimits(),
            WITHIN_S,
        )


async def test_without_the_cloud_it_goes_back_after_a_while(
    tmp_path: Path, bundles: Bundles
) -> None:
    """To an older one that fits, and to the newest once the limits have allowed it long enough."""
    limits = tmp_path / "limits.toml"
    limits.write_text("")
    async with open_modular_site(tmp_path, bundles) as site:
        await site.start(limits_file=limits, limits_patience_s=0.2)
        for version, chosen in ((1, SMALL), (2, LARGE)):
            await site.cloud.order(make_manifest(bundles.cloud, version, chosen))
            await site.runs(version)
        site.broker.stop()

        limits.write_text("memory_bytes = 4500")
        await site.runs(1)
        await site.answer()
        limits.write_text("memory_bytes = 9000")
        await site.runs(2)
        await site.answer()

        site.broker.start()


async def test_a_download_goes_on_after_a_restart(tmp_path: Path, bundles: Bundles) -> None:
    """From where it was, and the device begins with the sub-model it had."""

    def half(fetch: Fetch) -> list[Blob]:
        return [
            blob
            for want in fetch.wants
            for blob in make_blobs(
                want.piece, encode_whole(site.cloud.pieces[want.piece]), size=200
            )[:2]
        ]

    async with open_modular_site(tmp_path, bundles) as site:
        await site.start(pieces={"fetch_retry_s": 60.0})
        await site.cloud.order(make_manifest(bundles.cloud, 1, SMALL))
        await site.runs(1)
        site.cloud.answer = half
        await site.cloud.order(make_manifest(bundles.cloud, 2, LARGE))
        lacking = 6 - sum(m in LARGE[n] for n, m in ((0, 0), (0, 4), (1, 1)))
        await eventually(
            lambda: (
                len(list((tmp_path / "cam-1" / "pieces" / "partial").iterdir())) == lacking
                and site.modules.supply.received_bytes >= 400 * lacking
            ),
            WITHIN_S,
        )
        await site.stop()

        asked = len(site.cloud.fetches)
        site.cloud.answer = lambda fetch: modular_pieces.answer(fetch, site.cloud.pieces)
        await site.start()
        assert site.modules.running == 1
        await site.answer()
        await site.runs(2)

        wants = site.cloud.fetches[asked].wants
        assert [want.offset for want in wants] == [400] * lacking
        assert site.modules.supply.fetching.wait_s(0.0) is None


async def test_a_newer_version_of_a_module_comes_as_a_difference(
    tmp_path: Path, bundles: Bundles
) -> None:
    """From the piece the device holds; a difference from one it does not hold is asked anew."""
    async with open_modular_site(tmp_path, bundles) as site:
        before = bundles.cloud.spec.modules[0][0]
        after, content, piece = modular_pieces.moved_piece(site.cloud.pieces[before])
        manifest = make_manifest(bundles.cloud, 2, SMALL)
        newer = ModuleRef(module=0, version=1, piece=piece)
        layers = ((newer, *manifest.layers[0][1:]), *manifest.layers[1:])
        site.cloud.pieces[piece] = after

        def difference(fetch: Fetch) -> list[Blob]:
            (want,) = fetch.wants
            if isinstance(want.have, msgspec.UnsetType):
                return modular_pieces.answer(fetch, site.cloud.pieces)
            base = "e" * 64 if len(site.cloud.fetches) < 3 else before
            return make_blobs(want.piece, content, base=base)

        await site.start()
        await site.cloud.order(make_manifest(bundles.cloud, 1, SMALL))
        await site.runs(1)
        site.cloud.answer = difference
        await site.cloud.order(msgspec.structs.replace(manifest, layers=layers))
        await site.runs(2)

        assert site.cloud.fetches[1].wants[0].have == before
        assert site.cloud.fetches[2].wants[0].have is msgspec.UNSET
        await eventually(lambda: site.cloud.refusals == ["bad-array"], WITHIN_S)
        assert site.modules.supply.held()[0][0] == 2
