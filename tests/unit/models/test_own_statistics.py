"""BatchNorm by the own stream: the formula, every batch size, and no poison."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.unit.models.own_layers import (
    CHANNELS,
    LAYERS,
    expected_output,
    features_of,
    make_layer,
    values_of,
)
from torch import nn

from driftwell.models.own_statistics import (
    FULL_MAP,
    follow_own_statistics,
)
from driftwell.models.statistics import StatisticsSettings


@pytest.mark.parametrize("count", [1, 2, 64])
@pytest.mark.parametrize("case", LAYERS)
def test_the_first_batch_is_weighed_against_the_prior(case: str, count: int) -> None:
    """k images and a prior worth 16: shares k / (k + 16) and 16 / (k + 16), whatever k is."""
    kind, shape = LAYERS[case]
    layer = make_layer(kind)
    features = features_of(count, shape)
    values = values_of(features)
    share = count / (count + 16)

    output = layer(features)

    mean = (1 - share) * layer.running_mean.double().numpy() + share * values.mean(axis=1)
    variance = (1 - share) * layer.running_var.double().numpy() + share * values.var(axis=1)
    wanted = expected_output(layer, features, mean, variance)
    np.testing.assert_allclose(output.detach(), wanted, rtol=1e-4, atol=1e-4)


def test_the_average_is_exact_and_forgets_by_image() -> None:
    """Mean and variance are those of all values seen, each batch with its exponential weight."""
    rate, counts = 0.05, (8, 1, 3, 20)
    layer = make_layer(rate=rate, prior_images=0)
    batches = [features_of(count, seed=count) * (1 + number) for number, count in enumerate(counts)]
    weights = np.zeros(0)
    for count, batch in zip(counts, batches, strict=True):
        share = 1 - (1 - rate) ** count
        weights = np.append(weights * (1 - share), share)
        layer(batch)

    weights /= weights.sum()
    means = np.stack([values_of(batch).mean(axis=1) for batch in batches])
    squares = np.stack([(values_of(batch) ** 2).mean(axis=1) for batch in batches])
    mean = weights @ means
    np.testing.assert_allclose(layer.own[0], mean, rtol=1e-5)
    np.testing.assert_allclose(layer.own[1], weights @ squares - mean**2, rtol=1e-5)


def test_the_count_is_bounded_and_the_layer_settles() -> None:
    """Over a long stream the images behind the average stay below 1 / rate and a batch."""
    layer = make_layer(rate=0.01)
    seen = []
    for _ in range(300):
        layer(features_of(8))
        seen.append(layer.images)

    assert all(later >= earlier for earlier, later in pairwise(seen))
    assert seen[0] == 8
    assert 100 < seen[-1] < 1 / 0.01 + 8
    settled = values_of(features_of(8)).mean(axis=1)
    np.testing.assert_allclose(layer.own[0], settled, rtol=1e-5)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 3e38, 1e20])
def test_a_batch_that_is_not_finite_is_not_taken_in(poison: float) -> None:
    """The average, its count and the next answer are as if that batch had not been there."""
    layer, other = make_layer(), make_layer()
    bad = features_of(4)
    bad[2, 1, 0, 0] = poison
    for one in (layer, other):
        one(features_of(8))

    layer(bad)

    assert layer.moments is None
    assert layer.images == other.images == 8
    assert torch.equal(layer(features_of(2, seed=1)), other(features_of(2, seed=1)))


def test_poison_before_anything_else_leaves_the_prior() -> None:
    """A first batch with NaN: its finite images are answered by the prior alone."""
    layer = make_layer(prior_images=0)
    bad = features_of(4)
    bad[2, 1, 0, 0] = math.nan

    output = layer(bad).detach()[0]

    prior = [t.double().numpy() for t in (layer.running_mean, layer.running_var)]
    wanted = expected_output(layer, bad, *prior)[0]
    np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-4)


def test_a_version_is_worth_more_than_the_source() -> None:
    """Other running statistics weigh as `version_images`; with the source's back, as before."""
    layer = make_layer(prior_images=16, version_images=256)
    source = layer.running_mean.clone()
    features = features_of(16)
    outputs = []
    for prior in (source, source + 1, source):
        layer.running_mean.copy_(prior)
        layer.restart()
        outputs.append(layer(features).detach())
        own = values_of(features)
        share = 16 / 32 if torch.equal(prior, source) else 16 / (16 + 256)
        mean = (1 - share) * prior.double().numpy() + share * own.mean(axis=1)
        spread = (1 - share) * layer.running_var.double().numpy() + share * own.var(axis=1)
        wanted = expected_output(layer, features, mean, spread)
        np.testing.assert_allclose(outputs[-1], wanted, rtol=1e-4, atol=1e-4)

    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize(("elsewhere", "worth"), [(False, 256), (True, 16)])
def test_what_was_measured_elsewhere_is_worth_as_little_as_the_source(
    elsewhere: bool, worth: int
) -> None:
    """Until the next restart, n images of the own stream count n / (n + worth)."""
    layer = make_layer(rate=1e-9, prior_images=16, version_images=256)
    layer.running_mean += 1
    layer.running_var *= 2
    prior = np.stack([layer.running_mean.double().numpy(), layer.running_var.double().numpy()])
    layer.restart()
    layer(features_of(8, seed=2))  # of before the drift: forgotten
    layer.restart(elsewhere=elsewhere)
    own = features_of(24)

    layer(own[:8])
    layer(own[8:16])
    output = layer(own[16:]).detach()

    share = 24 / (24 + worth)
    moments = np.stack([values_of(own).mean(axis=1), values_of(own).var(axis=1)])
    wanted = expected_output(layer, own[16:], *((1 - share) * prior + share * moments))
    np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-4)


def test_an_empty_batch_is_nothing() -> None:
    """No image, no change."""
    layer = make_layer()

    assert layer(features_of(0)).shape == (0, CHANNELS, 4, 4)
    assert layer.images == 0


def test_both_layouts_give_the_same() -> None:
    """Channels first or last: one answer, of small maps and of large ones."""
    for count, side in ((4, 8), (4, 9), (40, 32), (64, 32)):
        features = features_of(count, (side, side))
        last = features.contiguous(memory_format=torch.channels_last)
        np.testing.assert_allclose(
            make_layer()(features).detach(), make_layer()(last).detach(), rtol=1e-4, atol=1e-4
        )


def test_a_small_map_counts_whole() -> None:
    """Up to 8 x 8 every pixel counts: those of odd rows and columns, too."""
    assert FULL_MAP == 64
    layer = make_layer(prior_images=0)
    features = features_of(300, (8, 8))
    layer(features)

    np.testing.assert_allclose(layer.own[0], values_of(features).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize(("count", "side", "step"), [(200, 10, 2), (200, 11, 2), (64, 32, 4)])
def test_of_many_pixels_a_part_counts_that_moves(count: int, side: int, step: int) -> None:
    """Each image starts one row and column further; everything counts of few."""
    features = torch.zeros(count, CHANNELS, side, side)
    for image in range(count):
        start = image % step
        features[image, :, start::step, start % 2 :: 2] = 1
    layer, few = make_layer(prior_images=0), make_layer(prior_images=0)
    layer(features)
    few(features[:4])

    assert layer.own.tolist() == [[1, 1, 1], [0, 0, 0]]
    np.testing.assert_allclose(few.own[0], values_of(features[:4]).mean(axis=1), rtol=1e-5)


def test_a_layer_in_two_places_stays_one() -> None:
    """Layers are replaced wherever they are, and one that is shared is still shared."""
    shared = nn.BatchNorm2d(CHANNELS)
    bare = nn.BatchNorm2d(CHANNELS, track_running_stats=False)
    network = nn.Sequential(nn.Sequential(shared), shared, bare)

    layers = follow_own_statistics(network, StatisticsSettings())

    assert [network[0][0], network[1]] == [layers[0], layers[0]]  # type: ignore[index]
    assert network[2] is bare
    assert list(network.state_dict()) == [
        f"{place}.{field}"
        for place in ("0.0", "1")
        for field in ("weight", "bias", "running_mean", "running_var")
    ] + ["2.weight", "2.bias"]
