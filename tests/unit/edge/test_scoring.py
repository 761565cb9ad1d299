"""Entropy, confidence and class against a plain float64 softmax."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from driftwell.edge.scoring import score

logits = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(2, 6)),
    elements=st.floats(-60, 60, width=32),
)


def reference(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wide = values.astype(np.float64)
    probability = np.exp(wide - wide.max(axis=1, keepdims=True))
    probability /= probability.sum(axis=1, keepdims=True)
    positive = np.where(probability > 0, probability, 1.0)
    return probability, -(probability * np.log(positive)).sum(axis=1)


@given(logits)
def test_it_is_the_entropy_of_the_softmax(values: NDArray[np.float32]) -> None:
    """Entropy, confidence and class are those of a softmax in float64."""
    scores = score(values)

    probability, entropy = reference(values)
    np.testing.assert_allclose(scores.entropy, entropy, atol=2e-5)
    np.testing.assert_allclose(scores.confidence, probability.max(axis=1), rtol=1e-5)
    assert scores.label.tolist() == values.argmax(axis=1).tolist()
    assert scores.entropy.dtype == np.float32
    assert scores.label.dtype == np.uint16


def test_equal_logits_are_as_uncertain_as_can_be() -> None:
    """The largest entropy is ln C, whatever the common value is."""
    scores = score(np.array([[0, 0, 0, 0], [1e30, 1e30, 1e30, 1e30]], dtype=np.float32))

    np.testing.assert_allclose(scores.entropy, np.log(4), rtol=1e-6)
    np.testing.assert_allclose(scores.confidence, 0.25)


def test_extreme_logits_are_certain() -> None:
    """Logits far apart give entropy 0 and confidence 1, never NaN."""
    scores = score(np.array([[1e4, 0, -1e4], [3e38, -3e38, 0], [-9e4, -8e4, -9e4]], np.float32))

    assert scores.entropy.tolist() == [0, 0, 0]
    assert scores.confidence.tolist() == [1, 1, 1]
    assert scores.label.tolist() == [0, 0, 1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_says_so_and_spoils_nothing_else(bad: float) -> None:
    """A row with NaN or infinity has entropy NaN; the other rows are as if it were not there."""
    values = np.array([[1, 2, 3], [bad, 0, 1], [0, 5, 0]], np.float32)

    scores = score(values)

    assert np.isnan(scores.entropy).tolist() == [False, True, False]
    others = score(values[[0, 2]])
    assert scores.entropy[[0, 2]].tolist() == others.entropy.tolist()


def test_what_is_known_of_the_classes_decides_label_and_confidence() -> None:
    """Entropy and what is not finite stay as they are."""
    logits = np.array([[1.0, 0.9, -5.0], [np.nan, 0, 0], [3e38, -3e38, 0]], np.float32)
    prior = np.log(np.array([0.1, 2.8, 0.1], np.float32))
    plain, known = score(logits), score(logits, prior)

    assert known.label[0] == 1
    wanted = np.exp(0.9) * 2.8 / (np.exp(1) * 0.1 + np.exp(0.9) * 2.8 + np.exp(-5) * 0.1)
    assert known.confidence[0] == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_array_equal(plain.entropy, known.entropy)
    assert known.label[2] == 0
