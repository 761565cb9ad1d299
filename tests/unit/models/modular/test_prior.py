"""What a device's labels say of its classes."""

import numpy as np
import pytest

from driftwell.models.modular.prior import log_prior


def test_even_classes_change_no_answer() -> None:
    """Where all are as often, nothing is added to the logits."""
    prior = log_prior(np.arange(40) % 4, 4)

    assert prior.dtype == np.float32
    assert prior.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-6)


def test_a_class_counts_by_its_share() -> None:
    """Three times as often: log 3 apart, whatever the other classes do."""
    prior = log_prior(np.repeat([0, 2], [300, 100]), 5, smoothing=1e-9)

    assert prior[0] - prior[2] == pytest.approx(np.log(3), rel=1e-5)
    assert prior[0] == pytest.approx(np.log(5 * 0.75), rel=1e-5)


def test_no_class_is_impossible() -> None:
    """One that was not seen can still be the answer."""
    prior = log_prior(np.zeros(50, np.int64), 2)

    assert np.isfinite(prior).all()
    assert prior[1] < prior[0] - 5
