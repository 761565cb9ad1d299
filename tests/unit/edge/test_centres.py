"""Online k-means: bounded, and where the samples are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from driftwell.edge.centres import MAX_CENTRES, OnlineCentres
from driftwell.messages.errors import ArrayError


def cloud(place: float, count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    drawn = place + 0.1 * generator.standard_normal((count, 2))
    return drawn.astype(np.float32)


def test_the_number_of_centres_is_bounded() -> None:
    """However many samples come, in whatever batches, there are at most MAX_CENTRES."""
    generator, centres = np.random.default_rng(1), OnlineCentres()
    for count in (1, 5, 0, 100, 300):
        centres.distances_then_learn(cloud(0, count, generator))

    assert len(centres) == MAX_CENTRES


def test_distances_are_to_the_centres_before_the_batch() -> None:
    """The first batch has distance 0, the second its distance to the first."""
    centres = OnlineCentres(limit=2)
    first = centres.distances_then_learn(np.array([[0, 0], [10, 0]], np.float32))
    second = centres.distances_then_learn(np.array([[0, 3], [10, 4]], np.float32))

    assert first.tolist() == [0, 0]
    assert second == pytest.approx([3, 4])


def test_a_centre_is_the_mean_of_its_samples() -> None:
    """Of two clouds each centre finds one."""
    generator, centres = np.random.default_rng(2), OnlineCentres(limit=2)
    centres.distances_then_learn(np.array([[-3, -3], [3, 3]], np.float32))
    for _ in range(20):
        both = np.concatenate([cloud(-5, 10, generator), cloud(5, 10, generator)])
        centres.distances_then_learn(both)

    distances = centres.distances_then_learn(np.array([[-5, -5], [5, 5]], np.float32))
    assert distances == pytest.approx([0, 0], abs=0.1)


def test_centres_follow_a_stream_that_moves() -> None:
    """After long in one place, the same number of samples elsewhere brings the centre there."""
    generator, centres = np.random.default_rng(3), OnlineCentres(limit=1)
    for place in (0, 8):
        for _ in range(100):
            centres.distances_then_learn(cloud(place, 50, generator))

    (distance,) = centres.distances_then_learn(np.array([[8, 8]], np.float32))
    assert distance < 0.1


def test_what_is_not_finite_moves_nothing() -> None:
    """Such a row gives NaN, whatever else is in its batch; another width is an error."""
    centres = OnlineCentres(limit=1)
    centres.distances_then_learn(np.zeros((1, 2), np.float32))
    bad = np.array([[np.nan, 0], [np.inf, 0], [3e38, 0], [0, 1]], np.float32)

    distances = centres.distances_then_learn(bad)

    assert np.isnan(distances).tolist() == [True, True, True, False]
    (after,) = centres.distances_then_learn(np.array([[0, 0.5]], np.float32))
    assert after == pytest.approx(0)
    with pytest.raises(ArrayError):
        centres.distances_then_learn(np.zeros((1, 3), np.float32))
