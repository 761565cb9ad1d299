"""When sub-models are refined, and when again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import tiny_modular
from tests.unit.cloud.modular.keeping import Site, memory, open_site
from tests.unit.cloud.modular.refining_site import SHARES, begun, derived, refiner_of

from driftwell.models.bundle import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_modular.make_modular(tmp_path)


@pytest.fixture
def site(tmp_path: Path, bundle: Bundle) -> Iterator[Site]:
    with open_site(tmp_path, bundle) as opened:
        yield opened


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


def test_after_a_restart_nothing_is_refined_twice(tmp_path: Path, bundle: Bundle) -> None:
    """And the modules are as they were refined."""
    with open_site(tmp_path, bundle) as site:
        derived(site)
        refiner = refiner_of(site)
        refinement = begun(refiner)
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
    refinement = begun(refiner)
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
    refinement = begun(refiner)
    refiner.take(refinement, refinement.run(), 60)

    same, other = refiner_of(site), refiner_of(site, name="other data")
    for one in (same, other):
        one.due(0)
    assert same.due(60) is None
    assert other.due(60) is not None
