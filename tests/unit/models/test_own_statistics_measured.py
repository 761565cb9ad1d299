"""Which batches own statistics measure, and which wait: settled averages, and labels in runs."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.unit.models.own_layers import features_of, make_layer, values_of
from torch import Tensor

from driftwell.models.own_statistics import (
    RUNS,
    SETTLED,
    OwnStatistics,
)


def settled_layer(**settings: Any) -> OwnStatistics:
    layer = make_layer(**settings)
    layer.every_batch = False
    while layer.images < SETTLED:
        layer(features_of(64))
    return layer


def test_a_settled_average_takes_in_two_batches_of_four_each_as_two() -> None:
    """It is measured in half of the batches, and goes from one domain to the next as fast."""
    layer, each = settled_layer(), settled_layer()
    each.every_batch = True
    measured = []
    for number in range(12):
        features = features_of(64, seed=number) + 5
        layer(features)
        each(features)
        measured.append(layer.moments is not None)

    assert measured == [False, True, True, False] * 3
    assert layer.images == pytest.approx(each.images, rel=0.05)
    np.testing.assert_allclose(layer.own[0], each.own[0], atol=0.1)
    assert abs(each.own[0] - values_of(features_of(64)).mean(axis=1)).min() > 1


def test_of_two_cameras_in_turn_both_are_followed() -> None:
    """And a batch of one image counts as one or two, not for a large one beside it."""
    layer = settled_layer()
    for number in range(40):
        layer(features_of(64 if number % 2 else 1, seed=number) + 2 * (number % 2))
    dark, bright = settled_layer(), settled_layer()
    for number in range(0, 40, 2):
        dark(features_of(1, seed=number))
        bright(features_of(64, seed=number) + 2)

    assert abs(layer.own[0] - bright.own[0]).max() < 0.2
    assert abs(layer.own[0] - dark.own[0]).min() > 1


def test_what_comes_in_runs_or_anew_is_measured_in_every_batch() -> None:
    layer = settled_layer()
    layer(features_of(8))
    assert layer.moments is None

    layer.design_effect = RUNS
    for number in range(4):
        layer(features_of(8, seed=number))
        assert layer.moments is not None
    layer.design_effect = 1.0
    layer.restart()
    for number in range(4):
        layer(features_of(8, seed=number))
        assert layer.moments is not None


def moments_of(*batches: Tensor) -> NDArray[np.float64]:
    """Mean and variance of all values of the batches together, (2, C)."""
    values = values_of(torch.cat(batches))
    return np.stack([values.mean(axis=1), values.var(axis=1)])


@pytest.mark.parametrize("count", [8, 32, 64, 200])
def test_images_of_the_present_run_wait(count: int) -> None:
    """An answer is by the images before the newest 64, or those of the newest batch if more."""
    layer = make_layer(rate=1e-9, prior_images=0)
    layer.design_effect = RUNS
    batches = [features_of(count, seed=seed) for seed in range(20)]
    a_block = max(1, 64 // count)
    layer(batches[0])  # there is nothing but itself

    for number, features in enumerate(batches[1:]):
        layer(features)
        taken_in = 1 + number // a_block * a_block
        np.testing.assert_allclose(layer.own, moments_of(*batches[:taken_in]), rtol=1e-4)
        assert layer.images == pytest.approx(taken_in * count, rel=1e-5)


def test_what_waits_is_taken_in_when_the_runs_are_over() -> None:
    """Once, with the batch that shows it; in random order nothing waits."""
    layer, other = make_layer(rate=1e-9), make_layer(rate=1e-9)
    batches = [features_of(8, seed=seed) for seed in range(5)]
    layer(batches[0])
    layer.design_effect = RUNS
    for features in batches[1:4]:
        layer(features)
    layer.design_effect = 1.0

    output = layer(batches[4])

    for features in batches[:4]:
        other(features)
    torch.testing.assert_close(output, other(batches[4]))
    assert layer.images == pytest.approx(other.images)


def test_a_restart_forgets_what_waits() -> None:
    """Nothing of before it is taken in later."""
    layer, other = make_layer(), make_layer()
    for one in (layer, other):
        one.design_effect = RUNS
    for seed in range(3):
        layer(features_of(8, seed=seed))
    layer.restart()

    for seed in range(3, 15):
        assert torch.equal(layer(features_of(8, seed=seed)), other(features_of(8, seed=seed)))
