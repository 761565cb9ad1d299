"""The baselines do what their papers say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests import tiny

from driftwell.models.bundle import Bundle
from driftwell.models.statistics import StatisticsSettings
from driftwell.tools.bench.baselines import BASELINES, ReliableEntropy


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny edge model."""
    return tiny.make_bundle(Path(tmp_path_factory.mktemp("bundle")), "edge")


def test_none_answers_as_the_bundle_does(bundle: Bundle) -> None:
    """`none` is the source model, batch after batch."""
    images = tiny.make_images(48)
    baseline = BASELINES["none"](bundle)

    answers = np.concatenate([baseline.answer(part) for part in np.split(images, 3)])

    assert bundle.network().logits(images).argmax(axis=1).tolist() == answers.tolist()


def test_bn_depends_on_the_batch_and_on_nothing_before_it(bundle: Bundle) -> None:
    """`bn` gives the same answers to the same batch whatever came before."""
    images, others = tiny.make_images(32), tiny.make_images(32, seed=1)
    baseline = BASELINES["bn"](bundle)
    first = baseline.answer(images)
    baseline.answer(others)

    assert first.tolist() == baseline.answer(images).tolist()


def test_own_answers_in_the_statistics_of_its_stream(bundle: Bundle) -> None:
    """`own` is the edge's network with its own statistics, and depends on what came before."""
    batches = [tiny.make_images(32), tiny.make_images(1, seed=1), tiny.make_images(32, seed=2)]
    network = bundle.network(own_statistics=StatisticsSettings(design_effect=True))
    baseline = BASELINES["own"](bundle)

    for images in batches:
        wanted = network.logits(images).argmax(axis=1)
        assert baseline.answer(images).tolist() == wanted.tolist()


def test_tent_answers_before_it_adapts(bundle: Bundle) -> None:
    """The first batch is answered as `bn` answers it, whatever is learned from it."""
    images = tiny.make_images(32)

    tent, bn = BASELINES["tent"](bundle), BASELINES["bn"](bundle)

    assert bn.answer(images).tolist() == tent.answer(images).tolist()


@pytest.mark.parametrize("method", ["tent", "eta"])
def test_adapting_lowers_the_entropy(method: str, bundle: Bundle) -> None:
    """Seen again and again, a batch is answered with less and less entropy."""
    images = tiny.make_images(64)
    baseline = BASELINES[method](bundle)
    entropies: list[float] = []
    module = baseline.module  # type: ignore[attr-defined]
    module.register_forward_hook(
        lambda _module, _inputs, logits: entropies.append(
            float(torch.distributions.Categorical(logits=logits.detach()).entropy().mean())
        )
    )

    for _ in range(40):
        baseline.answer(images)

    assert entropies[-1] < entropies[0]


def test_eta_learns_from_reliable_and_new_samples_only() -> None:
    """An uncertain batch gives no loss; a certain one does once, and is redundant then."""
    loss = ReliableEntropy(classes=4)
    uncertain = torch.zeros(8, 4, requires_grad=True)
    certain = torch.tensor([[9.0, 0.0, 0.0, 0.0]]).repeat(8, 1).requires_grad_(True)

    assert loss(uncertain) is None
    assert loss(certain) is not None
    assert loss(certain) is None
