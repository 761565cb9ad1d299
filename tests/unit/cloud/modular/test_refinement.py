"""What is kept of a refinement, and what is not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import numpy as np
import pytest
from tests import tiny_modular
from tests.brokers import eventually
from tests.unit.cloud.modular.keeping import Site, open_site
from tests.unit.cloud.modular.refining_site import (
    SETTINGS,
    SHARES,
    TRAINING,
    begun,
    bright,
    derived,
    refiner_of,
)

from driftwell.cloud.consumer import Consumer
from driftwell.cloud.modular import loops
from driftwell.cloud.modular.refinement import Refined, split
from driftwell.cloud.modular.refining import Labelled
from driftwell.messages.errors import SettingsError
from driftwell.models.bundle import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_modular.make_modular(tmp_path)


@pytest.fixture
def site(tmp_path: Path, bundle: Bundle) -> Iterator[Site]:
    with open_site(tmp_path, bundle) as opened:
        yield opened


def test_devices_get_what_came_of_it(site: Site) -> None:
    """By new versions of the modules they run."""
    derived(site)
    refiner = refiner_of(site)
    assert refiner.due(0) is None
    refinement = refiner.due(60)
    assert refinement is not None
    refiner.take(refinement, refinement.run(), 100)
    site.wait(61)
    site.tell(submodel=1, shares=SHARES)
    manifest = site.derive()

    assert manifest is not None
    assert {ref.version for layer in manifest.layers for ref in layer} == {0, 1}  # 0: the bypass


def test_what_would_not_be_better_is_not_published(site: Site) -> None:
    """Images that teach what those held out deny; and it is not tried again."""
    derived(site)
    refiner = refiner_of(site, bright(480))
    good = begun(refiner)
    refiner.take(good, good.run(), 100)

    data = bright(480)
    others = np.roll(data.images, 1, axis=0)
    is_taught = (np.arange(480) // 3 % 8 < 7)[:, None, None, None]
    denied = Labelled(np.where(is_taught, others, data.images), data.labels)
    derived(site, "cam-2", shares=[1.0, 0.0, 1.0])
    refiner = refiner_of(site, denied)
    bad = begun(refiner)
    refined = bad.run()

    assert refined.losses[1] > refined.losses[0]
    before = {one: site.keeper.catalogue.version(one) for one in site.keeper.catalogue.addresses}
    assert refiner.take(bad, refined, 100) == 0
    assert before == {one: site.keeper.catalogue.version(one) for one in before}
    assert refiner.due(1000) is None


def test_a_rate_that_breaks_all_leads_to_nothing(site: Site) -> None:
    derived(site)
    broken = msgspec.structs.replace(TRAINING, learning_rate=1e38)
    refiner = refiner_of(site, settings=msgspec.structs.replace(SETTINGS, training=broken))
    refinement = begun(refiner)
    refined = refinement.run()

    assert refined.losses[1] == np.inf
    assert refiner.take(refinement, refined, 100) == 0


def test_what_devices_learned_meanwhile_stays(site: Site) -> None:
    """A module that was folded during the training moves on by what refining changed."""
    derived(site)
    refiner = refiner_of(site)
    refinement = begun(refiner)
    refined = refinement.run()
    address = min(refined.versions)
    before = site.keeper.catalogue.newest(address)
    site.send(site.update(address, by=0.5))
    folded = site.keeper.catalogue.newest(address)
    assert folded.number == 1

    refiner.take(refinement, refined, 100)
    after = site.keeper.catalogue.newest(address)
    assert after.number == 2
    name = "first.weight"
    wanted = folded.arrays[name] + refined.versions[address].arrays[name] - before.arrays[name]
    apart = np.abs(after.arrays[name] - wanted).max()
    assert apart < 0.2 * np.abs(wanted - folded.arrays[name]).max()  # four bits a value


def test_a_version_that_moved_on_keeps_its_variances_above_0(site: Site) -> None:
    """A device and the refinement both made one smaller."""
    derived(site)
    refiner = refiner_of(site)
    refinement = begun(refiner)
    address = (0, 0)
    began = refinement.pieces[address]
    name = "norm.running_var"
    half = dict(began.arrays) | {name: began.arrays[name] * np.float32(0.3)}
    led_to = site.keeper.catalogue.moved(began, half)
    folded = site.keeper.catalogue.moved(began, half)
    assert led_to is not None
    assert folded is not None
    site.keeper.catalogue.add(address, folded)

    refiner.take(refinement, Refined((1.0, 0.5), {address: led_to}), 60)
    newest = site.keeper.catalogue.newest(address).arrays[name]
    assert (newest > 0).all()


def test_one_of_eight_images_of_each_class_is_held_out() -> None:
    training, held_out = split(bright(96))

    assert len(training.labels) == 84
    assert np.bincount(held_out.labels).tolist() == [4, 4, 4]


def test_too_few_images_are_told_at_the_start(site: Site) -> None:
    with pytest.raises(SettingsError, match="no class has 8 images"):
        refiner_of(site, bright(12))


async def test_a_training_that_fails_costs_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on; it is counted, and tried again after a rest."""
    monkeypatch.setattr(loops, "REFINE_LOOK_S", 0.01)
    derived(site)
    data = bright()
    broken = Labelled(data.images[:, :4], data.labels)  # not what the network takes
    rest = msgspec.structs.replace(SETTINGS, settle_s=0, rest_s=0.05)
    consumer = cast("Consumer", SimpleNamespace(counters=site.counters))
    running = asyncio.Task(loops.refine_loop(consumer, refiner_of(site, broken, rest)))
    await eventually(lambda: site.counters["refinements-failed"] > 1)
    assert not running.done()
    running.cancel()

    assert all(site.keeper.catalogue.version(one) == 0 for one in site.keeper.catalogue.addresses)
