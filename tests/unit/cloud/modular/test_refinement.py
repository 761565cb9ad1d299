"""When sub-models are refined, what is kept of it, and what is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests import tiny, tiny_modular
from tests.unit.cloud.modular.keeping import Site, open_site

from driftwell.cloud.modular.offline_settings import RefinementSettings, RefiningSettings
from driftwell.cloud.modular.refinement import Refiner, Source, split
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
    site: Site, data: Labelled | None = None, settings: RefinementSettings = SETTINGS
) -> Refiner:
    def network() -> ModularNetwork:
        made = site.bundle.module()
        assert isinstance(made, ModularNetwork)
        return made

    prepare = Preparation(site.bundle.manifest.preprocessing)
    return Refiner(
        settings, Source(data or bright(), prepare, network, seed=0),
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
    assert len(refinement.targets) == 1

    refined = refinement.run()
    assert refined.losses[1] < refined.losses[0]
    assert refiner.take(refinement, refined) == len(refined.versions) > 0
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
    refiner.take(refinement, refinement.run())
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
        refiner.take(refinement, refined)
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
        assert len(again.targets) == 2


def test_what_would_not_be_better_is_not_published(site: Site) -> None:
    """Images that teach what those held out deny; and it is not tried again."""
    derived(site)
    refiner = refiner_of(site, bright(480))
    refiner.due(0)
    good = refiner.due(60)
    assert good is not None
    refiner.take(good, good.run())

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
    assert refiner.take(bad, refined) == 0
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
    assert refiner.take(refinement, refined) == 0


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

    refiner.take(refinement, refined)
    after = site.keeper.catalogue.newest(address)
    assert after.number == 2
    name = "first.weight"
    wanted = folded.arrays[name] + refined.versions[address].arrays[name] - before.arrays[name]
    apart = np.abs(after.arrays[name] - wanted).max()
    assert apart < 0.2 * np.abs(wanted - folded.arrays[name]).max()  # four bits a value


def test_devices_alike_are_one_target(site: Site) -> None:
    for number in range(3):
        derived(site, f"cam-{number}")
    refiner = refiner_of(site)
    refiner.due(0)
    refinement = refiner.due(60)

    assert refinement is not None
    assert len(refinement.targets) == 1


def test_one_of_eight_images_of_each_class_is_held_out() -> None:
    training, held_out = split(bright(96))

    assert len(training.labels) == 84
    assert np.bincount(held_out.labels).tolist() == [4, 4, 4]


def test_too_few_images_are_told_at_the_start(site: Site) -> None:
    with pytest.raises(SettingsError, match="no class has 8 images"):
        refiner_of(site, bright(12))
