"""What a device's images use, and of which classes they are: running means of a bounded window."""

import numpy as np
import pytest

from driftwell.edge.usage import WINDOW, Meter, Usage, note_answers, observe

A, B = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
SURE = np.array([[50.0, 0.0, 0.0]], np.float32)


def test_the_first_batch_is_the_mean() -> None:
    usage = observe(Usage(), [A], 64)

    assert np.array_equal(usage.importance[0], A)
    assert usage.images == 64


def test_images_weigh_alike_until_the_window_is_full() -> None:
    usage = observe(observe(Usage(), [A], 100), [B], 300)

    np.testing.assert_allclose(usage.importance[0], [0.25, 0.75], rtol=1e-6)


def test_then_the_oldest_fade() -> None:
    usage = observe(Usage(), [A], 10 * WINDOW)
    assert usage.images == WINDOW
    usage = observe(usage, [B], WINDOW // 4)

    np.testing.assert_allclose(usage.importance[0], [0.75, 0.25], rtol=1e-6)


def test_class_shares_are_the_mean_probability_of_answers() -> None:
    """Two images sure of the first class, two that know nothing."""
    logits = np.concatenate([SURE, SURE, np.zeros((2, 3), np.float32)])
    usage = note_answers(Usage(), logits)

    assert usage.class_shares is not None
    np.testing.assert_allclose(usage.class_shares, [2 / 3, 1 / 6, 1 / 6], rtol=1e-5)
    assert usage.answers == 4


def test_class_shares_follow_a_window() -> None:
    usage = note_answers(Usage(), np.repeat(SURE, WINDOW, axis=0))
    usage = note_answers(usage, np.repeat(SURE[:, ::-1], WINDOW // 2, axis=0))

    assert usage.class_shares is not None
    np.testing.assert_allclose(usage.class_shares, [0.5, 0, 0.5], atol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_broken_batch_changes_nothing(poison: float) -> None:
    meter = Meter()
    meter.take([A], 64)
    meter.answer(SURE)
    before = meter.usage

    meter.take([np.array([poison, 0], np.float32)], 64)
    meter.answer(np.array([[poison, 0, 0]], np.float32))
    assert meter.usage is before
