"""What statistics are worth by the classes that were answered meanwhile."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tests import tiny

from driftwell.models.bundle import Bundle
from driftwell.models.coverage import Coverage
from driftwell.models.statistics import StatisticsSettings

CLASSES = 10


def answers(*classes: int) -> NDArray[np.float32]:
    """Logits of a network that is sure."""
    logits = np.full((len(classes), CLASSES), -20, np.float32)
    logits[np.arange(len(classes)), classes] = 20
    return logits


def test_one_class_of_ten_is_worth_next_to_nothing() -> None:
    """Of k even classes (k / 8) ** power; eight of ten are as good as all."""
    for k, expected in ((1, (1 / 8) ** 4), (4, (4 / 8) ** 4), (8, 1.0), (10, 1.0)):
        coverage = Coverage(0.001, 4.0)
        coverage.take_in(answers(*range(k)))
        assert coverage.trust == pytest.approx(expected)


def test_trust_grows_with_the_classes_that_pass() -> None:
    """One run of a class after the other; a restart forgets the classes, not the trust."""
    coverage = Coverage(0.001, 4.0)
    trust = []
    for one in range(10):
        coverage.take_in(answers(*[one] * 64))
        trust.append(coverage.trust)

    assert trust == sorted(trust)
    assert trust[0] < 0.001
    assert trust[-1] == 1.0
    coverage.restart()
    assert coverage.trust == 1.0
    coverage.take_in(answers(3))
    assert coverage.trust < 0.001


def test_without_power_and_on_nonsense_it_stays_as_it_is() -> None:
    """NaN has no classes; 0 switches it off."""
    off, on = Coverage(0.001, 0.0), Coverage(0.001, 4.0)
    off.take_in(answers(1))
    on.take_in(np.full((2, CLASSES), np.nan, np.float32))

    assert off.trust == on.trust == 1.0


def test_a_network_leans_on_its_version_while_it_sees_one_class(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The same image over and over: its statistics weigh less than without the setting."""
    bundle: Bundle = tiny.make_bundle(tmp_path_factory.mktemp("bundle"), "edge")
    images = np.repeat(tiny.make_images(1), 64, axis=0)
    source = bundle.network().logits(images[:1])
    apart = []
    for trust in (0.0, 8.0):
        network = bundle.network(own_statistics=StatisticsSettings(class_trust=trust))
        network.logits(images)
        apart.append(float(np.abs(network.logits(images)[:1] - source).max()))

    assert apart[1] < apart[0]
