"""When sub-models are refined, what is kept of it, and what is not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from tests import tiny, tiny_modular
from tests.brokers import eventually
from tests.unit.cloud.modular.keeping import Site, memory, open_site

from driftwell.cloud.consumer import Consumer
from driftwell.cloud.modular import loops
from driftwell.cloud.modular.offline_settings import RefinementSettings, RefiningSettings
from driftwell.cloud.modular.refinement import Refined, Source, split
from driftwell.cloud.modular.refiner import Refiner
from driftwell.cloud.modular.refining import Labelled
from driftwell.messages.errors import SettingsError
from driftwell.models.bundle import Bundle
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.network import Preparation

TRAINING = RefiningSettings(batches=30, batch=16, learning_rate=0.01)
SETTINGS = RefinementSettings(settle_s=60, training=TRAINING)
SHARES = [0.5, 0.5, 0.0]


def bright(count: int = 96) -> Labelled:
    """Images whose class is how bright they are."""
    labels = np.arange(count) % 3
    images = tiny.make_images(count) // 4 + (labels * 90).astype(np.uint8)[:, None, None, None]
    return Labelled(images, labels)


def refiner_of(
    site: Site,
    data: Labelled | None = None,
    settings: RefinementSettings = SETTINGS,
    name: str = "source",
) -> Refiner:
    def network() -> ModularNetwork:
        made = site.bundle.module()
        assert isinstance(made, ModularNetwork)
        return made

    prepare = Preparation(site.bundle.manifest.preprocessing)
    return Refiner(
        settings, Source(data or bright(), prepare, network, name, seed=0),
        fleet=site.keeper.fleet, catalogue=site.keeper.catalogue, registry=site.registry, keep=8,
    )  # fmt: skip


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_modular.make_modular(tmp_path)


@pytest.fixture
def site(tmp_path: Path, bundle: Bundle) -> Iterator[Site]:
    with open_site(tmp_path, bundle) as opened:
        yield opened


def derived(site: Site, device: str = "cam-1", **changes: Any) -> None:
    """The device has a sub-model, and has said of which classes its images are."""
    site.tell(device, **({"shares": SHARES} | changes))
    assert site.derive() is not None


def test_sub_models_are_refined_once_they_have_settled(site: Site) -> None:
    """Not before, not without class shares, and not twice."""
    refiner = refiner_of(site)
    site.tell("cam-2")
    assert site.derive() is not None
    assert refiner.due(0) is None
    assert refiner.due(1000) is None

    derived(site)
    assert refiner.due(1001) is None
    assert refiner.due(1060) is None
    refinement = refiner.due(1061)
    assert refinement is not None
    assert len(refinement.devices) == 1

    refined = refinement.run()
    assert refined.losses[1] < refined.losses[0]
    assert refiner.take(refinement, refined, 100) == len(refined.versions) > 0
    for address, version in refined.versions.items():
        assert site.keeper.catalogue.newest(address) is version
        assert version.number == 1
    assert refiner.due(2000) is None


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


def test_after_a_restart_nothing_is_refined_twice(tmp_path: Path, bundle: Bundle) -> None:
    """And the modules are as they were refined."""
    with open_site(tmp_path, bundle) as site:
        derived(site)
        refiner = refiner_of(site)
        refiner.due(0)
        refinement = refiner.due(60)
        assert refinement is not None
        refined = refinement.run()
        refiner.take(refinement, refined, 100)
    with open_site(tmp_path, bundle) as site:
        site.tell(shares=SHARES)
        refiner = refiner_of(site)
        assert refiner.due(0) is None
        assert refiner.due(100) is None
        for address, version in refined.versions.items():
            assert site.keeper.catalogue.newest(address).piece == version.piece

        derived(site, "cam-2", shares=[0.0, 0.0, 1.0])
        assert refiner.due(200) is None
        again = refiner.due(260)
        assert again is not None
        assert len(again.devices) == 2


def test_what_would_not_be_better_is_not_published(site: Site) -> None:
    """Images that teach what those held out deny; and it is not tried again."""
    derived(site)
    refiner = refiner_of(site, bright(480))
    refiner.due(0)
    good = refiner.due(60)
    assert good is not None
    refiner.take(good, good.run(), 100)

    data = bright(480)
    others = np.roll(data.images, 1, axis=0)
    is_taught = (np.arange(480) // 3 % 8 < 7)[:, None, None, None]
    denied = Labelled(np.where(is_taught, others, data.images), data.labels)
    derived(site, "cam-2", shares=[1.0, 0.0, 1.0])
    refiner = refiner_of(site, denied)
    refiner.due(0)
    bad = refiner.due(60)
    assert bad is not None
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
    refiner.due(0)
    refinement = refiner.due(60)
    assert refinement is not None
    refined = refinement.run()

    assert refined.losses[1] == np.inf
    assert refiner.take(refinement, refined, 100) == 0


def test_what_devices_learned_meanwhile_stays(site: Site) -> None:
    """A module that was folded during the training moves on by what refining changed."""
    derived(site)
    refiner = refiner_of(site)
    refiner.due(0)
    refinement = refiner.due(60)
    assert refinement is not None
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


def test_classes_that_wobble_are_no_news(site: Site) -> None:
    """Neither do they put the training off, nor are they trained for anew; others are."""
    refiner = refiner_of(site)
    derived(site)
    for second in range(0, 60, 10):
        site.tell(shares=[0.95 + 0.01 * (second % 20 > 0), 0.05, 0.0])
        assert refiner.due(second) is None
    refinement = refiner.due(60)
    assert refinement is not None
    refiner.take(refinement, refinement.run(), 60)
    for second in range(100, 10_000, 100):
        site.tell(shares=[0.85 + 0.01 * (second % 200 > 0), 0.15, 0.0])
        assert refiner.due(second) is None

    site.tell(shares=[0.6, 0.4, 0.0])
    assert refiner.due(10_000) is not None


def test_one_device_that_never_settles_does_not_hold_up_the_fleet(site: Site) -> None:
    """Ten times the wait, and it is taken as it is."""
    refiner = refiner_of(site)
    derived(site)
    due = None
    for number in range(1, 100):
        site.tell("cam-2", shares=SHARES, limits=memory(150 if number % 2 else 1900))
        site.wait(31)
        site.tell("cam-2", shares=SHARES, limits=memory(150 if number % 2 else 1900))
        site.derive()
        due = due or refiner.due(31 * number)
        if due is not None:
            break

    assert due is not None
    assert 600 <= 31 * number < 720


def test_between_two_refinements_there_is_a_rest(site: Site) -> None:
    derived(site)
    refiner = refiner_of(site)
    refiner.due(0)
    refinement = refiner.due(60)
    assert refinement is not None
    refiner.take(refinement, refinement.run(), 100)
    derived(site, "cam-2")
    assert refiner.due(110) is None
    assert refiner.due(699) is None
    assert refiner.due(700) is not None


def test_what_failed_is_tried_again_later_and_later(tmp_path: Path, bundle: Bundle) -> None:
    """It is booked nowhere: a restart tries it again, too."""
    with open_site(tmp_path, bundle) as site:
        derived(site)
        refiner = refiner_of(site)
        refiner.due(0)
        assert refiner.due(60) is not None
        waits = [refiner.failed(60) for _ in range(9)]
        assert waits == [600, 1200, 2400, 4800, 9600, 19_200, 38_400, 76_800, 76_800]
        assert refiner.due(60 + 76_799) is None
        assert refiner.due(60 + 76_800) is not None
        again = refiner_of(site)
        again.due(0)
        assert again.due(60) is not None


def test_other_data_are_another_refinement(site: Site) -> None:
    derived(site)
    refiner = refiner_of(site)
    refiner.due(0)
    refinement = refiner.due(60)
    assert refinement is not None
    refiner.take(refinement, refinement.run(), 60)

    same, other = refiner_of(site), refiner_of(site, name="other data")
    for one in (same, other):
        one.due(0)
    assert same.due(60) is None
    assert other.due(60) is not None


def test_a_version_that_moved_on_keeps_its_variances_above_0(site: Site) -> None:
    """A device and the refinement both made one smaller."""
    derived(site)
    refiner = refiner_of(site)
    refiner.due(0)
    refinement = refiner.due(60)
    assert refinement is not None
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
