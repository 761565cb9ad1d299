"""A network at work: state in whole or not at all, statistics measured on request."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests import tiny

from driftwell.messages.errors import ArrayError
from driftwell.models.bundle import Bundle
from driftwell.models.network import MIN_BATCH_FOR_STATISTICS, Preparation

IMAGES = tiny.make_images(MIN_BATCH_FOR_STATISTICS)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path, "edge")


def bad_states(bundle: Bundle) -> list[dict[str, NDArray[Any]]]:
    good = tiny.moved(bundle.source)
    last = list(good)[-1]
    wrong_dtype = good[last].astype(np.float64)
    return [
        {name: array for name, array in good.items() if name != last},
        {**good, "more": np.zeros(1, np.float32)},
        {**good, last: good[last][:-1]},
        {**good, last: wrong_dtype},
    ]


def test_a_state_is_installed_whole_or_not_at_all(bundle: Bundle) -> None:
    """The state that fits is there bit for bit; one wrong last array leaves every bit as it was."""
    network = bundle.network()
    for bad in bad_states(bundle):
        with pytest.raises(ArrayError):
            network.install(bad)
        state = network.state()
        assert all(np.array_equal(state[name], bundle.source[name]) for name in bundle.source)

    network.install(tiny.moved(bundle.source))

    state = network.state()
    assert all(np.array_equal(state[n], a) for n, a in tiny.moved(bundle.source).items())


def test_networks_of_one_bundle_share_nothing(bundle: Bundle) -> None:
    """Installing a state in one leaves the other, and the bundle, alone."""
    one, two = bundle.network(), bundle.network()
    before = two.logits(IMAGES)
    one.install(tiny.moved(bundle.source))

    assert np.array_equal(two.logits(IMAGES), before)
    assert np.array_equal(bundle.network().logits(IMAGES), before)


def test_measured_statistics_are_kept(bundle: Bundle) -> None:
    """Each BatchNorm keeps mean and variance of its input over the batch; weights stay."""
    network = bundle.network()
    measured = network.logits_measuring_statistics(IMAGES)
    state = network.state()

    features = network.module.conv1(Preparation(tiny.PREPROCESSING)(IMAGES)).detach()
    np.testing.assert_allclose(state["bn1.running_mean"], features.mean((0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(state["bn1.running_var"], features.var((0, 2, 3)), rtol=1e-5)
    assert np.array_equal(state["bn1.weight"], bundle.source["bn1.weight"])
    assert not np.array_equal(measured, bundle.network().logits(IMAGES))
    assert np.array_equal(network.logits(IMAGES), network.logits(IMAGES))


def test_preparation_is_the_formula() -> None:
    """(pixels / 255 - mean) / std, channels first."""
    prepared = Preparation(tiny.PREPROCESSING)(IMAGES).numpy()

    expected = ((IMAGES / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared, expected, atol=1e-5)
