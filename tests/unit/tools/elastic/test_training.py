"""Training is plain, and the same for the same seed."""

import numpy as np
import pytest
import torch

from driftwell.models.network import Preparation
from driftwell.models.training import Effort, Views, batches
from driftwell.tools.elastic.method import pretrain, untrained
from driftwell.tools.elastic.problems import PROBLEMS
from driftwell.tools.elastic.samples import read_digits
from driftwell.tools.elastic.training import evaluate, predict, train
from driftwell.tools.elastic.weights import install, state_of, weight_bytes, weighted_mean

DIGITS = PROBLEMS["digits"]
PREPARE = Preparation(DIGITS.preprocessing)


def test_the_seed_decides_the_weights() -> None:
    """To the last bit, whatever torch's own generator has given out before."""
    samples = read_digits().at(np.arange(100))
    states = []
    for _ in range(2):
        torch.rand(7)
        module = untrained(DIGITS, 0.25, seed=3)
        train(module, samples, PREPARE, Effort(2, 0.001, 16), seed=[3])
        states.append(state_of(module))

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_digits_are_learned() -> None:
    """From 400 images: over 90 % of the others, and as many parameters as the network has."""
    digits = read_digits()
    pretrained = pretrain(DIGITS, digits.at(np.arange(400)), seed=0)

    assert evaluate(pretrained.module(), digits.at(np.arange(400, 1797)), PREPARE) > 90


def test_the_rate_rises_and_falls_to_nothing() -> None:
    """Where an effort asks for it; else it stays."""
    optimizer = torch.optim.Adam([torch.zeros(1)], 0.5)
    seen = []
    for effort in (Effort(1, 0.1, 16, one_cycle=True), Effort(1, 0.1, 16)):
        for progress in (0.1, 0.2, 0.6, 1.0):
            effort.set_rate(optimizer, progress)
            seen.append(optimizer.param_groups[0]["lr"])

    assert seen == pytest.approx([0.05, 0.1, 0.05, 0.0] + 4 * [0.0])


def test_views_are_of_the_same_images() -> None:
    """Mirrored or not, each by itself; without views they are what they were."""
    source = np.random.default_rng(0)
    images = torch.rand(20, 3, 8, 8)
    seen = Effort(1, 0.1, 16, views=Views(mirrors=True)).view(images, source)
    is_same = (seen == images).flatten(1).all(dim=1)
    is_mirrored = (seen == images.flip(3)).flatten(1).all(dim=1)

    assert (is_same ^ is_mirrored).all()
    assert 0 < int(is_mirrored.sum()) < 20
    assert Effort(1, 0.1, 16).view(images, source) is images


def test_a_prior_decides_where_the_network_cannot() -> None:
    """It is added to the logits of every image."""
    prior = np.zeros(10, np.float32)
    prior[7] = 1000
    answers = predict(untrained(DIGITS, 1.0, seed=0), read_digits().images[:30], PREPARE, prior)

    assert set(answers.tolist()) == {7}


@pytest.mark.parametrize(
    ("count", "sizes"), [(32, [16, 16]), (33, [16, 17]), (34, [16, 16, 2]), (17, [17]), (3, [3])]
)
def test_no_batch_is_a_single_image(count: int, sizes: list[int]) -> None:
    """BatchNorm could not train on it; it joins the last batch."""
    cut = list(batches(np.arange(count), 16))

    assert [len(part) for part in cut] == sizes
    assert np.concatenate(cut).tolist() == list(range(count))


def test_no_image_has_no_answer() -> None:
    """An empty batch is answered by an empty array."""
    assert predict(untrained(DIGITS, 1.0, seed=0), read_digits().images[:0], PREPARE).shape == (0,)


def test_a_mean_of_equal_states_is_that_state() -> None:
    """To the last bit, whatever the weights."""
    state = state_of(untrained(DIGITS, 0.5, seed=0))

    mean = weighted_mean([state, state, state], [51.0, 77.0, 149.0])

    assert all(torch.equal(state[name], mean[name]) for name in state)


def test_a_mean_is_weighted() -> None:
    """One part of 0, three of 1."""
    mean = weighted_mean([{"a": torch.zeros(2)}, {"a": torch.ones(2)}], [50, 150])

    assert mean["a"].tolist() == [0.75, 0.75]


def test_a_state_is_parameters_and_statistics() -> None:
    """4 bytes a value; installed it answers as the network it is of."""
    module, other = (untrained(DIGITS, 1.0, seed=seed) for seed in (0, 1))
    images = read_digits().images[:50]

    install(other, state_of(module))

    assert weight_bytes(state_of(module)) == 4 * (142_858 + 2 * (128 + 512 + 128))
    assert predict(other, images, PREPARE).tolist() == predict(module, images, PREPARE).tolist()
