"""How near a stream is to the images of training, and what the prior is worth for it."""

import math

import numpy as np
import pytest

from driftwell.models.nearness import NEAR, squared_distance, worth

PRIOR = np.array([[0.0, 1.0, -2.0], [1.0, 4.0, 0.25]], dtype=np.float32)


def test_the_same_statistics_are_at_no_distance() -> None:
    assert squared_distance(PRIOR, PRIOR) == 0


def test_distance_is_in_standard_deviations_of_the_prior() -> None:
    """All means moved by half a deviation: 0.25; all variances four times as large: ln(2)^2."""
    moved, wider = PRIOR.copy(), PRIOR.copy()
    moved[0] += 0.5 * np.sqrt(PRIOR[1])
    wider[1] *= 4

    assert squared_distance(moved, PRIOR) == pytest.approx(0.25, rel=1e-3)
    assert squared_distance(wider, PRIOR) == pytest.approx(math.log(2) ** 2, rel=1e-3)


def test_a_channel_that_never_moves_is_of_no_account() -> None:
    """Without variance, and with an average of float32 that is not quite the prior."""
    prior = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    own = prior + np.float32(1e-7)

    assert squared_distance(own, prior) < 1e-4


def test_the_nearer_the_more_the_prior_is_worth() -> None:
    worths = [worth([(NEAR * part) ** 2], 0.0) for part in (2, 1.01, 0.9, 0.5, 0.1, 0)]

    assert worths[:2] == [1, 1]
    assert worths[2] == pytest.approx(0.9**-8)
    assert worths[3] == pytest.approx(256)
    assert worths[2:] == sorted(worths[2:])
    assert math.isfinite(worths[-1])


def test_what_own_statistics_hide_is_allowed_for() -> None:
    """The same distance is another domain where the layers before are normalised already."""
    assert worth([0.1**2], 0.0) > 20
    assert worth([0.1**2], 1.0) == 1


@pytest.mark.parametrize("squared", [[], [math.nan], [math.inf], [0.0, math.inf]])
def test_what_cannot_be_told_changes_nothing(squared: list[float]) -> None:
    assert worth(squared, 0.5) == 1
