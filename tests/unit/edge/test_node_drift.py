"""The node notices that the world has changed, and begins its statistics anew."""

import numpy as np
import pytest
from tests import tiny

from driftwell.edge.drift import DriftSettings
from driftwell.edge.filter import FilterSettings
from driftwell.edge.node import EdgeNode
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle
from driftwell.models.statistics import StatisticsSettings

BATCH = 64


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundle"), "edge")


def make_node(bundle: Bundle, drift: DriftSettings | None = DriftSettings()) -> EdgeNode:  # noqa: B008
    return EdgeNode(bundle, FilterSettings(), statistics="own", drift=drift)


def day(seed: int) -> Pixels:
    return tiny.make_images(BATCH, seed)


def night(seed: int) -> Pixels:
    return day(seed) // 8


def answer(node: EdgeNode, *batches: Pixels) -> list[int]:
    """The domain of each batch."""
    return [node.infer(images).domain for images in batches]


def test_a_sudden_change_is_noticed_within_two_batches(bundle: Bundle) -> None:
    """Once: the new domain is the usual one from then on; nothing is noticed before."""
    node = make_node(bundle)

    before = answer(node, *(day(seed) for seed in range(12)))
    after = answer(node, *(night(seed) for seed in range(12, 30)))

    assert before == [0] * 12
    assert after[1:] == [1] * 17


def test_after_a_drift_only_the_new_domain_counts(bundle: Bundle) -> None:
    """The next answer is that of a network that has seen nothing of the old domain."""
    node = make_node(bundle)
    seeds = iter(range(100))
    answer(node, *(day(next(seeds)) for _ in range(12)))
    while node.infer(night(next(seeds))).domain == 0:
        pass
    images = night(next(seeds))
    network = bundle.network(own_statistics=StatisticsSettings())

    assert np.array_equal(node.infer(images).logits, network.logits(images))


def test_who_does_not_watch_notices_nothing(bundle: Bundle) -> None:
    """Without settings, or without own statistics, there is no verdict and no domain but 0."""
    delivered = EdgeNode(bundle, FilterSettings(), statistics="delivered", drift=DriftSettings())
    for node in (make_node(bundle, drift=None), delivered):
        answer(node, *(day(seed) for seed in range(8)))
        last = node.infer(night(9))

        assert (last.drift, last.domain) == (None, 0)


def test_the_number_of_the_domain_can_be_kept(bundle: Bundle) -> None:
    """A node that is told where it was counts on from there."""
    node = make_node(bundle)
    node.domain = 7
    answer(node, *(day(seed) for seed in range(12)))

    assert answer(node, *(night(seed) for seed in range(12, 15)))[-1] == 8
