"""Accuracy of a run, as a whole and by domain."""

import numpy as np

from driftwell.tools.bench.measuring import Answered, measure
from driftwell.tools.bench.results import Visit
from driftwell.tools.bench.scenarios import Order


def order(*streams: int, visits: list[int] | None = None) -> Order:
    count = len(streams)
    visit = np.array(visits or [0] * count)
    return Order(np.array(streams), np.arange(count), visit)


def answered(device: int, at: list[int], *, right: set[int]) -> Answered:
    return Answered(device, np.array(at), np.array([place in right for place in at]))


def test_a_visit_has_its_beginning_and_its_end() -> None:
    """Eight batches of one image: the first two wrong, all others right."""
    batches = [answered(0, [n], right=set(range(2, 8))) for n in range(8)]

    accuracy = measure(batches, order(*[0] * 8), ["fog"])

    assert (accuracy.overall, accuracy.last_half) == (75.0, 100.0)
    assert accuracy.by_domain == (
        Visit(domain="fog", visit=0, n=8, accuracy=75.0, accuracy_first=0.0, accuracy_last=100.0),
    )


def test_a_batch_may_hold_two_domains() -> None:
    """Each image counts for its own."""
    [fog, snow] = measure(
        [answered(0, [0, 1, 2, 3], right={0, 1, 2})], order(0, 0, 1, 1), ["fog", "snow"]
    ).by_domain

    assert (fog.domain, fog.n, fog.accuracy) == ("fog", 2, 100.0)
    assert (snow.domain, snow.n, snow.accuracy) == ("snow", 2, 50.0)


def test_a_domain_that_comes_back_is_another_visit() -> None:
    """In the order of the visits."""
    batches = [answered(0, [0, 1], right={0}), answered(0, [2, 3], right={2, 3})]

    visits = measure(batches, order(0, 1, 0, 1, visits=[0, 0, 1, 1]), ["fog", "snow"]).by_domain

    assert [(v.domain, v.visit, v.accuracy) for v in visits] == [
        ("fog", 0, 100.0), ("snow", 0, 0.0), ("fog", 1, 100.0), ("snow", 1, 100.0)
    ]  # fmt: skip


def test_first_batches_are_of_each_device() -> None:
    """Two devices have four first batches between them."""
    batches = [answered(n % 2, [n], right={0, 1, 2, 3}) for n in range(8)]

    [visit] = measure(batches, order(*[0] * 8), ["fog"]).by_domain

    assert (visit.accuracy_first, visit.accuracy_last) == (100.0, 0.0)
