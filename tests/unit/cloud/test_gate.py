"""What the gate lets through, and what it does not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from driftwell.cloud.gate import effective_classes, judge_candidate
from driftwell.cloud.settings import GateSettings

SETTINGS = GateSettings(tolerance=2.0, diversity=0.7)
CLASSES = 10


def answers(labels: NDArray[np.int64], certainty: float) -> NDArray[np.float32]:
    """Probabilities that give `labels` so much and the other classes the rest, evenly."""
    rest = (1 - certainty) / (CLASSES - 1)
    return np.where(np.eye(CLASSES)[labels] > 0, certainty, rest).astype(np.float32)


@pytest.fixture
def truth() -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, CLASSES, 64)


def wrong(truth: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """The truth, but for a share of the images."""
    changed = truth.copy()
    count = round(share * len(truth))
    changed[:count] = (changed[:count] + 1) % CLASSES
    return changed


def test_a_better_candidate_passes(truth: NDArray[np.int64]) -> None:
    """It agrees more with the teacher than its parent: the loss falls, nothing is said."""
    verdict = judge_candidate(
        SETTINGS,
        teacher=answers(truth, 0.9),
        candidate=answers(wrong(truth, 0.1), 0.8),
        parent=answers(wrong(truth, 0.3), 0.8),
    )

    assert verdict.passes
    assert verdict.loss_change_nats < 0


def test_a_worse_candidate_is_refused(truth: NDArray[np.int64]) -> None:
    """Half of the answers turn wrong: far beyond two standard errors."""
    verdict = judge_candidate(
        SETTINGS,
        teacher=answers(truth, 0.9),
        candidate=answers(wrong(truth, 0.6), 0.8),
        parent=answers(wrong(truth, 0.1), 0.8),
    )

    assert verdict.reason == "disagreement"
    assert verdict.loss_change_nats > 2 * verdict.standard_error_nats > 0


def test_a_difference_within_the_noise_passes(truth: NDArray[np.int64]) -> None:
    """One image gained, one lost: there is nothing to be told apart."""
    parent, candidate = wrong(truth, 0.2), wrong(truth, 0.2)
    candidate[0], candidate[40] = truth[0], (truth[40] + 1) % CLASSES

    verdict = judge_candidate(
        SETTINGS,
        teacher=answers(truth, 0.9),
        candidate=answers(candidate, 0.8),
        parent=answers(parent, 0.8),
    )

    assert verdict.passes


def test_a_collapsed_candidate_is_refused(truth: NDArray[np.int64]) -> None:
    """It answers one class to everything, however good the parent is."""
    verdict = judge_candidate(
        SETTINGS,
        teacher=answers(truth, 0.9),
        candidate=answers(np.zeros_like(truth), 0.3),
        parent=answers(np.zeros_like(truth), 0.9),
    )

    assert verdict.reason == "collapse"
    assert verdict.diversity < 0.2


def test_few_classes_in_the_stream_are_no_collapse() -> None:
    """A stream that shows two classes wants two classes answered, not ten."""
    truth = np.arange(64) % 2
    verdict = judge_candidate(
        SETTINGS,
        teacher=answers(truth, 0.9),
        candidate=answers(truth, 0.8),
        parent=answers(truth, 0.7),
    )

    assert verdict.passes
    assert verdict.diversity == pytest.approx(1.0)


def test_what_is_not_finite_is_refused(truth: NDArray[np.int64]) -> None:
    """A single NaN is enough."""
    candidate = answers(truth, 0.9)
    candidate[3, 2] = np.nan

    verdict = judge_candidate(
        SETTINGS, teacher=answers(truth, 0.9), candidate=candidate, parent=answers(truth, 0.9)
    )

    assert verdict.reason == "not-finite"


def test_effective_classes() -> None:
    """Even answers count every class, one answer counts one."""
    assert effective_classes(answers(np.arange(CLASSES), 0.9)) == pytest.approx(CLASSES)
    assert effective_classes(answers(np.zeros(8, np.int64), 0.9)) == pytest.approx(1.0)
