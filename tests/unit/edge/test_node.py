"""The node: answers, and takes versions between batches only."""

import msgspec
import numpy as np
import pytest
from tests import tiny

from driftwell.edge.filter import FilterSettings
from driftwell.edge.node import EdgeNode
from driftwell.edge.settings import Statistics
from driftwell.messages.errors import ArrayError, DeltaError
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle
from driftwell.models.statistics import StatisticsSettings

IMAGES = tiny.make_images(32)


def make_node(bundle: Bundle, statistics: Statistics = "delivered") -> EdgeNode:
    return EdgeNode(bundle, FilterSettings(), cohort="cam-1", statistics=statistics)


def test_it_answers_with_the_bundles_network(bundle: Bundle) -> None:
    """Before any version the logits are those of the source network."""
    predictions = make_node(bundle).infer(IMAGES)

    assert np.array_equal(predictions.logits, bundle.network().logits(IMAGES))
    assert predictions.version == 0
    assert predictions.swapped is None


def test_a_version_answers_from_the_next_batch_on(bundle: Bundle) -> None:
    """The whole next batch is of the new version, with the logits of the installed state."""
    node = make_node(bundle)
    before = node.infer(IMAGES)
    manifest = tiny.make_manifest(bundle)
    assert node.offer(manifest, now_ns=tiny.NOW_NS)
    assert node.incumbent.version == 1

    after, later = node.infer(IMAGES), node.infer(IMAGES)

    network = bundle.network()
    network.install(tiny.applied(bundle))
    assert np.array_equal(after.logits, network.logits(IMAGES))
    assert not np.array_equal(after.logits, before.logits)
    assert (before.version, after.version, later.version) == (0, 1, 1)
    assert after.swapped == manifest
    assert later.swapped is None


def test_a_version_offered_during_a_batch_waits(bundle: Bundle) -> None:
    """Offered in the middle of a forward pass, a version leaves that batch as it is."""
    node = make_node(bundle)
    expected = bundle.network().logits(IMAGES)
    manifest = tiny.make_manifest(bundle)
    offered: list[bool] = []
    forward = node._network.module.forward

    def offer_while_running(images: Pixels) -> object:
        offered.append(node.offer(manifest, now_ns=tiny.NOW_NS))
        return forward(images)

    node._network.module.forward = offer_while_running
    during, after = node.infer(IMAGES), node.infer(IMAGES)

    assert offered == [True, False]
    assert np.array_equal(during.logits, expected)
    assert (during.version, after.version) == (0, 1)


def test_of_two_offers_the_newer_is_taken(bundle: Bundle) -> None:
    """Two versions between two batches: only the second ever answers."""
    node = make_node(bundle)
    node.offer(tiny.make_manifest(bundle, version=1), now_ns=tiny.NOW_NS)
    node.offer(tiny.make_manifest(bundle, version=2, by=0.5), now_ns=tiny.NOW_NS)

    assert node.infer(IMAGES).version == 2
    assert not node.offer(tiny.make_manifest(bundle, version=2, by=0.5), now_ns=tiny.NOW_NS)


def test_a_refused_version_changes_nothing(bundle: Bundle) -> None:
    """After a refusal the logits are bit for bit those of before."""
    node = make_node(bundle)
    node.offer(tiny.make_manifest(bundle), now_ns=tiny.NOW_NS)
    before = node.infer(IMAGES)
    bad = msgspec.structs.replace(tiny.make_manifest(bundle, version=2, by=0.5), result="0" * 64)

    with pytest.raises(DeltaError):
        node.offer(bad, now_ns=tiny.NOW_NS)

    after = node.infer(IMAGES)
    assert np.array_equal(before.logits, after.logits)
    assert after.version == node.incumbent.version == 1


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 8, 1), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((2, 8, 8, 1), np.float32),
    ],
    ids=["channels", "none", "one-without-batch", "float"],
)
def test_wrong_images_are_an_error(bundle: Bundle, images: Pixels) -> None:
    """Images the model does not take raise ArrayError, and the node goes on."""
    node = make_node(bundle)

    with pytest.raises(ArrayError):
        node.infer(images)

    assert len(node.infer(IMAGES).label) == 32


def test_the_first_batch_brings_its_statistics(bundle: Bundle) -> None:
    """The first batch is normalised by its own statistics, and these stay."""
    node = make_node(bundle, "first-batch")
    first = node.infer(IMAGES)
    network = bundle.network()
    expected = network.logits_measuring_statistics(IMAGES)

    assert np.array_equal(first.logits, expected)
    assert np.array_equal(node.infer(IMAGES).logits, network.logits(IMAGES))


def test_a_version_before_the_first_batch_brings_better_statistics(bundle: Bundle) -> None:
    """A node that already has a version does not measure."""
    node = make_node(bundle, "first-batch")
    node.offer(tiny.make_manifest(bundle), now_ns=tiny.NOW_NS)

    network = bundle.network()
    network.install(tiny.applied(bundle))
    assert np.array_equal(node.infer(IMAGES).logits, network.logits(IMAGES))


def test_small_batches_keep_the_sources_statistics(bundle: Bundle) -> None:
    """Under 16 images nothing is measured."""
    node = make_node(bundle, "first-batch")

    few = node.infer(IMAGES[:15])

    assert np.array_equal(few.logits, bundle.network().logits(IMAGES[:15]))


def test_own_statistics_are_those_of_all_batches_so_far(bundle: Bundle) -> None:
    """Each answer is that of a network that follows the same images; other modes answer else."""
    settings = StatisticsSettings(rate=0.01, prior_images=4)
    node = EdgeNode(
        bundle, FilterSettings(), cohort="cam-1", statistics="own", own_statistics=settings
    )
    network = bundle.network(own_statistics=settings)
    batches = [IMAGES, tiny.make_images(5, seed=1), tiny.make_images(1, seed=2)]

    answers = [node.infer(images).logits for images in batches]

    for answer, images in zip(answers, batches, strict=True):
        assert np.array_equal(answer, network.logits(images))
        assert not np.array_equal(answer, bundle.network().logits(images))


def test_own_statistics_start_again_with_a_version(bundle: Bundle) -> None:
    """The batch after a swap is answered as if the node had seen nothing before it."""
    for trained_samples in (0, 32):
        node = make_node(bundle, "own")
        node.infer(IMAGES)
        manifest = tiny.make_manifest(bundle)
        learned = msgspec.structs.replace(manifest.provenance, trained_samples=trained_samples)
        manifest = msgspec.structs.replace(manifest, provenance=learned)
        node.offer(manifest, now_ns=tiny.NOW_NS)
        network = bundle.network(own_statistics=StatisticsSettings())
        network.install(tiny.applied(bundle))
        # The statistics of a version that learned from nothing are of the source domain.
        network.restart_statistics(elsewhere=trained_samples == 0)

        assert np.array_equal(node.infer(IMAGES).logits, network.logits(IMAGES))


def test_what_is_known_of_the_classes_decides_its_answers(bundle: Bundle) -> None:
    """And nothing else: logits, entropies and verdicts are those of the network."""
    plain, knowing = make_node(bundle), make_node(bundle)
    knowing.class_prior = np.array([-50, 0, -50, -50], np.float32)
    images = tiny.make_images(32)
    one, other = plain.infer(images), knowing.infer(images)

    assert set(other.label) == {1} != set(one.label)
    for name in ("logits", "entropy", "verdicts"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
