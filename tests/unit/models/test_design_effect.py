"""How many images are worth one: by the runs in which a network's answers come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests import tiny

from driftwell.models.bundle import Bundle
from driftwell.models.design_effect import GROUP, GROUPS, LARGEST, DesignEffect
from driftwell.models.statistics import StatisticsSettings

CLASSES = 10


def answers(classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits of a network that is sure."""
    logits = np.full((len(classes), CLASSES), -20, np.float32)
    logits[np.arange(len(classes)), classes] = 20
    return logits


def effect_of(classes: NDArray[np.int64], batch: int) -> float:
    effect = DesignEffect()
    for first in range(0, len(classes), batch):
        effect.take_in(answers(classes[first : first + batch]))
    return effect.value


@pytest.mark.parametrize("few", [2, 4, 10])
def test_in_random_order_every_image_counts(few: int) -> None:
    """However few classes there are; the estimate scatters a little above 1."""
    generator = np.random.default_rng(0)
    values = [effect_of(generator.integers(0, few, 1024), 64) for _ in range(20)]

    assert min(values) >= 1
    assert np.mean(values) < 1.7


@pytest.mark.parametrize("run", [8, 16, 32, 64])
def test_in_runs_about_one_image_a_run_counts(run: int) -> None:
    """All images of a run say the same: the design effect is the run's length."""
    classes = np.random.default_rng(1).integers(0, CLASSES, 2048 // run).repeat(run)

    assert effect_of(classes, 64) == pytest.approx(run, rel=0.25)


def test_longer_runs_than_the_largest_group_count_as_such() -> None:
    """The value has a bound, and one class all along has it."""
    assert effect_of(np.repeat(np.arange(CLASSES), 200), 64) == pytest.approx(64, rel=0.2)
    assert effect_of(np.full(1024, 3), 64) == LARGEST


def test_runs_show_in_the_first_batch() -> None:
    """Half a batch of each of two classes is no random draw of two."""
    assert effect_of(np.repeat([3, 5], 32), 64) > 10


@given(st.lists(st.integers(1, 70), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_how_answers_are_cut_into_batches_does_not_matter(sizes: list[int], seed: int) -> None:
    """Single images or hundreds: the groups are the stream's, once a group is whole."""
    total = sum(sizes) // GROUP * GROUP
    classes = np.random.default_rng(seed).integers(0, CLASSES, (total + 4) // 5).repeat(5)[:total]
    by_batch = DesignEffect()
    first = 0
    for size in sizes:
        if len(classes[first : first + size]):
            by_batch.take_in(answers(classes[first : first + size]))
        first += size

    assert by_batch.value == pytest.approx(effect_of(classes, GROUP))


def test_what_it_keeps_does_not_grow() -> None:
    """And what is older than that is forgotten: after a time in runs a time without."""
    generator = np.random.default_rng(2)
    effect = DesignEffect()
    effect.take_in(answers(np.repeat(np.arange(CLASSES), 100)))
    assert effect.value > 30
    effect.take_in(answers(generator.integers(0, CLASSES, GROUP * GROUPS)))

    assert effect.value < 2
    for kept in (effect._means, effect._squares):
        assert kept is not None
        assert len(kept) == GROUPS


def test_a_restart_forgets_the_answers_but_not_the_value() -> None:
    """The next domain comes in runs, too, until its answers say otherwise."""
    effect = DesignEffect()
    effect.take_in(answers(np.repeat([1, 2, 3, 4], 16)))
    before = effect.value
    effect.restart()
    effect.take_in(answers(np.array([5] * GROUP)))
    assert effect.value == before > 10

    effect.take_in(answers(np.random.default_rng(3).integers(0, CLASSES, 128)))
    assert effect.value < before / 4


def test_nonsense_changes_nothing() -> None:
    """NaN has no classes, and one image no neighbours; what comes after counts as ever."""
    effect, clean = DesignEffect(), DesignEffect()
    effect.take_in(np.full((64, CLASSES), np.nan, np.float32))
    effect.take_in(answers(np.array([1])))
    assert effect.value == 1

    clean.take_in(answers(np.array([1])))
    for one in (effect, clean):
        one.take_in(answers(np.repeat([1, 2, 3, 4], 16)))
    assert effect.value == clean.value > 10


def test_another_domain_begins_without_the_answers_of_the_last(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """They may be few classes of a network that was lost; a new version of the same keeps them."""
    bundle: Bundle = tiny.make_bundle(tmp_path_factory.mktemp("bundle"), "edge")
    network = bundle.network(own_statistics=StatisticsSettings(design_effect=True))
    network.logits(np.repeat(tiny.make_images(1), 64, axis=0))
    runs = network._runs
    assert runs is not None
    for elsewhere, is_empty in ((False, False), (True, True)):
        network.restart_statistics(elsewhere=elsewhere)
        assert (runs._means is None) == is_empty


def test_a_network_leans_on_its_version_while_images_come_in_runs(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The same image over and over: its statistics weigh less than without the setting."""
    bundle: Bundle = tiny.make_bundle(tmp_path_factory.mktemp("bundle"), "edge")
    images = np.repeat(tiny.make_images(1), 64, axis=0)
    source = bundle.network().logits(images[:1])
    apart = []
    for design_effect in (False, True):
        settings = StatisticsSettings(design_effect=design_effect)
        network = bundle.network(own_statistics=settings)
        network.logits(images)
        apart.append(float(np.abs(network.logits(images)[:1] - source).max()))

    assert apart[1] < apart[0]
