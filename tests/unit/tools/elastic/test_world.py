"""The world of the elastic bench is what its plan says, and the same for the same seed."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest

from driftwell.messages.errors import SettingsError
from driftwell.models.footprint import Footprint
from driftwell.tools.elastic.plan import Shares
from driftwell.tools.elastic.problems import PROBLEMS
from driftwell.tools.elastic.samples import Samples, read_digits
from driftwell.tools.elastic.world import World, deal_classes, make_world, windows

FULL = Footprint(parameters=10, peak_bytes=1000, latency_ms=2.0)


def world(*, seed: int = 0, skew: int = 2, devices: int = 10, steps: int = 3) -> World:
    return make_world(
        PROBLEMS["digits"], read_digits(), devices=devices, skew=skew, steps=steps, seed=seed,
        full=FULL, download_bytes=400, shares=Shares(),
    )  # fmt: skip


def pictures(parts: Iterable[Samples]) -> set[bytes]:
    return {image.tobytes() for samples in parts for image in samples.images}


def bits(one: World) -> list[object]:
    parts = [one.proxy, *(p for d in one.devices for p in (*d.steps, d.test))]
    arrays = [(part.images.tobytes(), part.labels.tobytes()) for part in parts]
    return [arrays, [(device.classes, device.budget) for device in one.devices]]


def test_the_seed_decides_the_world() -> None:
    """Twice the same seed is twice the same world; another seed is another one."""
    first = bits(world(seed=3))

    assert first == bits(world(seed=3))
    assert first != bits(world(seed=4))


def test_test_images_are_never_learned_from() -> None:
    """Neither from the cloud's proxy data, nor from what any device has at any step."""
    made = world(steps=20)
    learned = pictures([made.proxy, *(part for d in made.devices for part in d.steps)])

    assert learned & pictures(device.test for device in made.devices) == set()


def test_devices_learn_from_no_proxy_data() -> None:
    """They are new to the cloud."""
    made = world(steps=20)

    assert pictures([made.proxy]) & pictures(p for d in made.devices for p in d.steps) == set()


@pytest.mark.parametrize("skew", [1, 2, 5, 10])
def test_a_device_has_its_own_classes_only(skew: int) -> None:
    """In training and in testing, and its test images are of all of them, equally."""
    for device in world(skew=skew).devices:
        found, counts = np.unique(device.test.labels, return_counts=True)

        assert len(device.classes) == skew
        assert tuple(found) == device.classes
        assert len(set(counts.tolist())) == 1
        for own in device.steps:
            assert set(own.labels.tolist()) <= set(device.classes)


@pytest.mark.parametrize(("devices", "skew"), [(10, 2), (7, 3), (50, 5), (4, 2)])
def test_classes_are_dealt_out_evenly(devices: int, skew: int) -> None:
    """No class is on two devices more than another; all are there where they can be."""
    dealt = deal_classes(10, devices=devices, skew=skew, seed=1)
    counts = [sum(one in own for own in dealt) for one in range(10)]

    assert max(counts) - min(counts) <= 1
    assert sum(counts) == devices * skew


def test_the_proxy_data_are_three_tenths_of_each_class() -> None:
    """Balanced as the data are, shuffled, and the same with every skew."""
    made, digits = world(), read_digits()
    shares = np.bincount(made.proxy.labels) / np.bincount(digits.labels)

    assert shares == pytest.approx(np.full(10, 0.3), abs=0.01)
    assert len(set(made.proxy.labels[:20].tolist())) > 3
    assert bits(world(skew=5))[0][0] == bits(made)[0][0]  # type: ignore[index]


def test_a_device_has_50_to_150_samples_and_40_to_test() -> None:
    """The same number at every step."""
    for device in world(steps=6).devices:
        [size] = {len(own) for own in device.steps}

        assert 50 <= size <= 150
        assert len(device.test) >= 40


def test_half_of_the_data_is_replaced_at_each_step() -> None:
    """The later half stays, then come as many new ones; in order of the pool's rounds."""
    pool = np.arange(1000)

    held = windows(pool, size=101, steps=5, source=np.random.default_rng(0))

    assert [len(one) for one in held] == [101] * 5
    for before, after in pairwise(held):
        assert before[50:].tolist() == after[:51].tolist()
        assert set(before.tolist()) & set(after[51:].tolist()) == set()


def test_a_device_replaces_half_of_its_samples() -> None:
    """As the windows say: what it holds at a step begins with the later half of before."""
    for device in world(steps=4).devices:
        fresh = len(device.steps[0]) // 2
        for before, after in pairwise(device.steps):
            assert np.array_equal(after.images[: len(after) - fresh], before.images[fresh:])


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    """The data of its first step are the same."""
    short, long = world(steps=1), world(steps=8)

    for one, other in zip(short.devices, long.devices, strict=True):
        assert np.array_equal(one.steps[0].images, other.steps[0].images)


def test_budgets_are_shares_of_the_full_network() -> None:
    """Each limit is drawn by itself; with another skew a device has the same ones."""
    budgets = [device.budget for device in world(devices=60).devices]

    assert {one.memory_bytes for one in budgets} == {200, 350, 500, 750, 1000}
    assert {one.latency_ms for one in budgets} == {0.4, 0.7, 1.0, 1.5, 2.0}
    assert {one.download_bytes for one in budgets} == {80, 140, 200, 300, 400}
    assert budgets == [device.budget for device in world(devices=60, skew=5).devices]


def test_what_cannot_be_is_said() -> None:
    """More classes than there are, and classes with too few samples."""
    few = Samples(np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 10)

    with pytest.raises(SettingsError, match="skew 11"):
        world(skew=11)
    with pytest.raises(SettingsError, match="class 0 has 2 samples"):
        make_world(
            PROBLEMS["digits"], few, devices=1, skew=1, steps=1, seed=0,
            full=FULL, download_bytes=400, shares=Shares(),
        )  # fmt: skip
