"""The node notices that the world has changed, and goes back to what it knows."""

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from tests import tiny

from driftwell.edge.domains import decode_memory
from driftwell.edge.drift import DriftSettings
from driftwell.edge.filter import FilterSettings, FilterState, judge
from driftwell.edge.node import EdgeNode
from driftwell.edge.predictions import Predictions
from driftwell.edge.scoring import score
from driftwell.messages.errors import DeltaError
from driftwell.messages.head import Manifest
from driftwell.messages.images import Pixels
from driftwell.messages.signature import make_signature, pack_signature
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
    """How often the node had left a domain, after each batch."""
    return [drifts(node, images) for images in batches]


def drifts(node: EdgeNode, images: Pixels) -> int:
    place = node.infer(images).place
    assert place is not None
    return place.drifts


def test_a_sudden_change_is_noticed_within_two_batches(bundle: Bundle) -> None:
    """Once: the new domain is the usual one from then on; nothing is noticed before."""
    node = make_node(bundle)

    before = answer(node, *(day(seed) for seed in range(12)))
    after = answer(node, *(night(seed) for seed in range(12, 30)))

    assert before == [0] * 12
    assert after[1:] == [1] * 17


def until_drift(node: EdgeNode, batches: Iterator[Pixels]) -> tuple[Pixels, Predictions]:
    """The batch that showed it, and what the node said of it."""
    for images in batches:
        predictions = node.infer(images)
        if predictions.has_drifted:
            return images, predictions
    raise AssertionError("the node noticed nothing")


def test_the_batch_that_shows_a_drift_is_the_first_of_the_new_domain(bundle: Bundle) -> None:
    """It and what follows are answered as if there had been nothing before; it counts once."""
    node = make_node(bundle)
    answer(node, *(day(seed) for seed in range(12)))
    network = bundle.network(own_statistics=StatisticsSettings())

    images, predictions = until_drift(node, (night(seed) for seed in range(12, 30)))

    wanted = network.logits(images)
    assert np.array_equal(predictions.logits, wanted)
    assert np.array_equal(predictions.entropy, score(wanted).entropy)
    assert np.array_equal(predictions.label, score(wanted).label)
    judgement = judge(node.settings, FilterState(), score(wanted).entropy, len(tiny.CLASSES))
    assert np.array_equal(predictions.verdicts, judgement.verdicts)
    assert node.filter_state == judgement.state
    for seed in range(40, 43):
        assert np.array_equal(node.infer(night(seed)).logits, network.logits(night(seed)))


def test_a_batch_too_small_for_statistics_keeps_its_answer(bundle: Bundle) -> None:
    """Eight images that complete a block: they are answered once, and those after them anew."""
    node, twin = make_node(bundle), make_node(bundle, drift=None)
    by_day = [day(seed)[part : part + 8] for seed in range(12) for part in range(0, BATCH, 8)]
    by_night = [night(seed)[part : part + 8] for seed in range(12, 30) for part in range(0, 64, 8)]
    for images in by_day:
        node.infer(images)
        twin.infer(images)
    nights = iter(by_night)

    while not (predictions := node.infer(images := next(nights))).has_drifted:
        twin.infer(images)

    assert np.array_equal(predictions.logits, twin.infer(images).logits)
    network = bundle.network(own_statistics=StatisticsSettings())
    images = next(nights)
    assert np.array_equal(node.infer(images).logits, network.logits(images))


def test_who_does_not_watch_notices_nothing(bundle: Bundle) -> None:
    """Without settings, or without own statistics, there is no verdict and no place."""
    delivered = EdgeNode(bundle, FilterSettings(), statistics="delivered", drift=DriftSettings())
    for node in (make_node(bundle, drift=None), delivered):
        for seed in range(8):
            node.infer(day(seed))
        last = node.infer(night(9))

        assert (last.drift, last.place) == (None, None)


def version_for(
    node: EdgeNode, bundle: Bundle, domain: int, by: float, like: Pixels, *, version: int = 1
) -> Manifest:
    """A version for a domain whose images look like these."""
    network = bundle.network(own_statistics=StatisticsSettings())
    network.logits(like)
    moments = network.signature()
    assert moments is not None
    cohort = node.incumbent.cohort
    manifest = tiny.make_manifest(
        bundle, version=version, by=by, cohort=f"{cohort}/{domain}" if domain else cohort
    )
    signature = make_signature(*moments, images=len(like))
    return msgspec.structs.replace(manifest, signature=pack_signature(signature))


def test_a_known_domain_is_answered_by_its_version_at_once(bundle: Bundle) -> None:
    """The first batch of the night already, by the very state that was offered for nights."""
    node = make_node(bundle)
    assert node.offer(version_for(node, bundle, 0, 0.5, day(90)), now_ns=tiny.NOW_NS)
    nightly = version_for(node, bundle, 1, 0.125, night(91), version=7)
    assert node.offer(nightly, now_ns=tiny.NOW_NS)
    node.take_place(drifts=0, domain=0)
    by_day = [node.infer(day(seed)).version for seed in range(4)]

    images = night(20)
    first = node.infer(images)

    assert by_day == [1] * 4
    assert (first.version, first.is_recalled, first.swapped) == (7, True, nightly)
    network = bundle.network(own_statistics=StatisticsSettings())
    network.install(tiny.applied(bundle))
    network.restart_statistics(elsewhere=True)  # these versions have seen no upload
    assert np.array_equal(first.logits, network.logits(images))
    assert first.place is not None
    assert (first.place.domain, first.place.drifts) == (1, 1)
    back = node.infer(day(30))
    assert (back.version, back.is_recalled) == (1, True)


def test_a_version_for_another_domain_waits_until_it_returns(bundle: Bundle) -> None:
    """Its number is compared with those of its own domain, and an older one is refused."""
    node = make_node(bundle)
    node.offer(version_for(node, bundle, 0, 0.5, day(90), version=9), now_ns=tiny.NOW_NS)
    nightly = version_for(node, bundle, 1, 0.125, night(91), version=2)

    assert node.offer(nightly, now_ns=tiny.NOW_NS)
    assert not node.offer(nightly, now_ns=tiny.NOW_NS)
    assert node.incumbent.version == 9
    assert node.infer(day(1)).version == 9
    older = version_for(node, bundle, 1, 0.25, night(91), version=1)
    with pytest.raises(DeltaError, match="not above 2"):
        node.offer(older, now_ns=tiny.NOW_NS)


def test_the_cloud_places_a_device_that_has_drifted(bundle: Bundle) -> None:
    """Until then no version is for it; then those of the domain are, whatever their number."""
    node = make_node(bundle)
    node.offer(version_for(node, bundle, 0, 0.5, day(90), version=9), now_ns=tiny.NOW_NS)
    node.take_place(drifts=0, domain=0)
    seeds = iter(range(100))
    answer(node, *(day(next(seeds)) for _ in range(12)))
    while drifts(node, night(next(seeds))) == 0:
        pass
    node.offer(version_for(node, bundle, 0, 0.25, day(90), version=10), now_ns=tiny.NOW_NS)
    assert node.infer(night(next(seeds))).version == 9

    node.take_place(drifts=1, domain=1)
    assert node.offer(version_for(node, bundle, 1, 0.125, night(91)), now_ns=tiny.NOW_NS)

    assert node.infer(night(next(seeds))).version == 1


def test_who_does_not_watch_takes_no_version_of_a_domain(bundle: Bundle) -> None:
    """It would never answer."""
    node = make_node(bundle, drift=None)
    with pytest.raises(DeltaError, match="local/1"):
        node.offer(version_for(node, bundle, 1, 0.125, night(91)), now_ns=tiny.NOW_NS)


def test_a_version_that_waits_does_not_survive_its_domain(bundle: Bundle) -> None:
    """A head comes during the very pass that shows the drift: it is for what was left."""
    node = make_node(bundle)
    node.offer(version_for(node, bundle, 0, 0.5, day(90), version=9), now_ns=tiny.NOW_NS)
    node.take_place(drifts=0, domain=0)
    seeds = iter(range(100))
    answer(node, *(day(next(seeds)) for _ in range(12)))
    versions = iter(range(10, 100))
    forward = node._network.module.forward

    def offer_while_running(images: Pixels) -> object:
        late = version_for(node, bundle, 0, 0.25, day(90), version=next(versions))
        node.offer(late, now_ns=tiny.NOW_NS)
        return forward(images)

    node._network.module.forward = offer_while_running
    while drifts(node, night(next(seeds))) == 0:
        pass
    node._network.module.forward = forward
    running = node.infer(night(next(seeds))).version

    newest = node.domains.bank.find(0)
    assert newest is not None
    assert running < newest.manifest.version
    node.take_place(drifts=1, domain=1)
    assert node.infer(night(next(seeds))).version == running


def test_a_node_remembers_where_it_was_and_what_ran(bundle: Bundle) -> None:
    """Unplaced, with another domain's version; of another cohort it remembers nothing."""
    node = make_node(bundle)
    manifest = version_for(node, bundle, 0, 0.5, day(90), version=9)
    node.offer(manifest, now_ns=tiny.NOW_NS)
    seeds = iter(range(100))
    answer(node, *(day(next(seeds)) for _ in range(12)))
    while drifts(node, night(next(seeds))) == 0:
        pass
    memory = decode_memory(node.memory())
    assert memory is not None

    again = make_node(bundle)
    again.offer(manifest, now_ns=tiny.NOW_NS)
    assert again.remember(memory)
    elsewhere = EdgeNode(
        bundle, FilterSettings(), statistics="own", drift=DriftSettings(), cohort="other"
    )

    assert (again.domains.domain, again.domains.drifts) == (None, 1)
    assert again.infer(night(next(seeds))).version == 9
    assert not elsewhere.remember(memory)
    assert (elsewhere.domains.domain, elsewhere.domains.drifts) == (0, 0)
