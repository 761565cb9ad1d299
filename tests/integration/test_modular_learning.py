"""A device with a modular bundle trains on its labelled images, if it is told to."""

from pathlib import Path

import msgspec
import numpy as np
from tests.brokers import eventually
from tests.daemons import WITHIN_S
from tests.modular_pieces import Bundles, make_manifest
from tests.modular_site import expected, logits_of, open_modular_site

from driftwell.messages.blob import in_order
from driftwell.messages.delta import apply_delta

LARGE = ((0, 1, 2), (1, 2, 3))


async def test_a_device_that_trains_tells_what_its_modules_learned(
    tmp_path: Path, bundles: Bundles
) -> None:
    """One update a module, from the very piece it ran; what it runs itself stays as it is."""
    async with open_modular_site(tmp_path, bundles) as site:
        learning = {"enabled": True, "every": 64, "window": 64, "epochs": 1}
        await site.start(statistics="delivered", learning=learning)
        await site.cloud.order(make_manifest(bundles.cloud, 1, LARGE))
        await site.runs(1)
        await site.answer()
        assert site.device.counters["trainings"] == 0

        await site.answer()
        await eventually(lambda: len(site.cloud.updates) == 6, WITHIN_S)

        spec = bundles.cloud.spec
        assert {update.module for update in site.cloud.updates} == {
            spec.modules[layer][module] for layer, chosen in enumerate(LARGE) for module in chosen
        }
        for update in site.cloud.updates:
            assert (update.base_version, update.samples) == (0, 64)
            assert not isinstance(update.delta, msgspec.UnsetType)
            before = in_order(site.cloud.pieces[update.module])
            learned = apply_delta(before, update.delta)
            assert any((learned[name] != before[name]).any() for name in before)
            values = sum(array.size for array in before.values())
            assert len(msgspec.msgpack.encode(update.delta)) <= max(512, values // 2)
        assert site.device.counters["updates_sent"] == 6
        np.testing.assert_array_equal(await logits_of(site), expected(bundles, LARGE))


async def test_a_device_that_is_not_told_to_does_not_train(
    tmp_path: Path, bundles: Bundles
) -> None:
    """However many labelled images it sees."""
    async with open_modular_site(tmp_path, bundles) as site:
        await site.start()

        await site.answer(512)

        assert site.device.learner is None
        assert site.device.counters["trainings"] == 0
