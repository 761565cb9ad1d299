"""The order of a bench's images: every one once, as its scenario says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftwell.tools.bench.scenarios import (
    IMAGES_A_SECOND,
    SCENARIOS,
    START_NS,
    Order,
    Stream,
    count_batches,
    lined_up,
    put_in_order,
    schedule,
)


def stream(name: str, count: int, number: int = 0) -> Stream:
    """Every image tells its stream and its position."""
    images = np.zeros((count, 1, 2, 1), np.uint8)
    images[:, 0, 0, 0] = number
    images[:, 0, 1, 0] = np.arange(count) % 256
    return Stream(name, images, np.arange(count) % 4)


def streams(*counts: int) -> list[Stream]:
    return [stream(f"s{number}", count, number) for number, count in enumerate(counts)]


def places(order: Order) -> list[tuple[int, int]]:
    return list(zip(order.stream.tolist(), order.position.tolist(), strict=True))


@pytest.mark.parametrize("scenario", SCENARIOS)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=4), seed=st.integers(0, 3))
def test_every_image_comes_once(scenario: str, counts: list[int], seed: int) -> None:
    """None is lost or repeated, and the same seed gives the same order."""
    given_streams = streams(*counts)
    order = put_in_order(scenario, given_streams, seed=seed)

    assert sorted(places(order)) == [(n, i) for n, count in enumerate(counts) for i in range(count)]
    assert places(order) == places(put_in_order(scenario, given_streams, seed=seed))


def test_seed_0_is_the_order_of_the_file_and_another_is_not() -> None:
    """Within each stream; the domains stay in their order."""
    file, other = (put_in_order("continual", streams(20, 20), seed=seed) for seed in (0, 1))

    assert places(file) == [(n, i) for n in (0, 1) for i in range(20)]
    assert file.stream.tolist() == other.stream.tolist()
    assert file.position.tolist() != other.position.tolist()


def test_neighbouring_domains_cross_fade() -> None:
    """The next domain's share rises linearly over a quarter of each; elsewhere there is one."""
    order = put_in_order("gradual", streams(4000, 4000), seed=0)

    zone = order.stream[3000:5000]

    assert set(order.stream[:3000].tolist()) == {0}
    assert set(order.stream[5000:].tolist()) == {1}
    shares = zone.reshape(10, 200).mean(axis=1)
    assert shares == pytest.approx(np.linspace(0.05, 0.95, 10), abs=0.02)
    assert (np.diff(order.position[order.stream == 0]) == 1).all()


def test_mixed_batches_hold_all_domains() -> None:
    """Every few images, and on every device."""
    given_streams = streams(60, 60, 60)
    order = put_in_order("mixed", given_streams, seed=0)

    assert all(set(part) == {0, 1, 2} for part in order.stream.reshape(60, 3).tolist())
    for batch in schedule(order, given_streams, devices=3, batch=15):
        assert set(order.stream[batch.at].tolist()) == {0, 1, 2}


def test_correlated_labels_come_in_runs() -> None:
    """The same label follows far more often than in the file, where it never does."""
    given_streams = streams(400)
    order = put_in_order("correlated", given_streams, seed=0)
    _, labels = lined_up(order, given_streams, np.arange(400))

    assert np.mean(np.diff(labels) == 0) > 0.9
    assert sorted(labels.tolist()) == sorted(given_streams[0].labels.tolist())


def test_domains_recur_with_other_images() -> None:
    """The first half of each stream in the first round, the second half in the second."""
    order = put_in_order("recurring", streams(4, 6), seed=0)

    assert places(order) == [
        (0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (0, 2), (0, 3), (1, 3), (1, 4), (1, 5)
    ]  # fmt: skip
    assert order.visit.tolist() == [0] * 5 + [1] * 5


def test_images_are_dealt_out_in_turn() -> None:
    """A device's batch comes with its last image, and the last batch may be smaller."""
    given_streams = streams(7, 6)
    order = put_in_order("continual", given_streams, seed=0)

    batches = list(schedule(order, given_streams, devices=2, batch=3))

    assert [(one.device, one.at.tolist()) for one in batches] == [
        (0, [0, 2, 4]), (1, [1, 3, 5]), (0, [6, 8, 10]), (1, [7, 9, 11]), (0, [12])
    ]  # fmt: skip
    assert batches[0].time_ns == START_NS + 4 * 10**9 // (2 * IMAGES_A_SECOND)
    assert batches[2].images[:, 0, :, 0].tolist() == [[0, 6], [1, 1], [1, 3]]
    assert batches[2].labels.tolist() == [2, 1, 3]
    assert count_batches(13, devices=2, batch=3) == [3, 2]


def test_a_device_may_get_nothing() -> None:
    """More devices than images."""
    given_streams = streams(2)
    order = put_in_order("reset", given_streams, seed=0)

    assert [b.device for b in schedule(order, given_streams, devices=3, batch=4)] == [0, 1]
    assert count_batches(2, devices=3, batch=4) == [1, 1, 0]
