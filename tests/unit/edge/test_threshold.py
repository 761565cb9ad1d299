"""The running quantile: how many are chosen, and which."""

import numpy as np
import pytest

from driftwell.edge.threshold import WINDOW, ScoreWindow, choose
from driftwell.messages.errors import ArrayError


def filled(generator: np.random.Generator) -> ScoreWindow:
    scores = generator.random(WINDOW).astype(np.float32)
    return choose(scores, ScoreWindow(), 0.5, generator).window


def test_the_best_of_the_window_are_chosen() -> None:
    """A sample is chosen if it is among the best `rate` of the last 250, its batch included."""
    generator = np.random.default_rng(1)
    window = filled(generator)
    batch = np.array([2.0, -1.0, 0.5, 3.0], np.float32)

    choice = choose(batch, window, 0.1, generator)

    last = np.concatenate([window.entries[:, 0], batch])[-WINDOW:]
    expected = [(last > score).sum() < 0.1 * WINDOW for score in batch]
    assert choice.mask.tolist() == expected == [True, False, False, True]


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (1.0, 3)])
def test_the_ends_of_the_rate(rate: float, expected: int) -> None:
    """Rate 0 chooses nothing; rate 1 every finite score, however low."""
    generator = np.random.default_rng(1)
    scores = np.array([-9, np.nan, -8, np.inf, -7, -np.inf], np.float32)

    assert choose(scores, filled(generator), rate, generator).mask.sum() == expected


def test_what_is_not_finite_is_never_chosen_nor_remembered() -> None:
    """NaN and infinities leave the others' choice and the window as they would be."""
    generator = np.random.default_rng(2)
    scores = np.array([np.inf, 0.3, np.nan, 0.9], np.float32)

    choice = choose(scores, ScoreWindow(), 0.5, generator)

    assert choice.mask.tolist() == [False, False, False, True]
    assert choice.window.entries[:, 0] == pytest.approx([0.3, 0.9])


def test_equal_scores_are_a_fair_and_repeatable_lottery() -> None:
    """A constant score chooses at the rate, and the same seed chooses the same samples."""
    masks = []
    for seed in (1, 1, 2):
        generator = np.random.default_rng(seed)
        window, chosen = filled(generator), []
        for _ in range(100):
            choice = choose(np.zeros(40, np.float32), window, 0.2, generator)
            window = choice.window
            chosen.append(choice.mask)
        masks.append(np.concatenate(chosen))

    assert masks[0].tolist() == masks[1].tolist()
    assert masks[0].tolist() != masks[2].tolist()
    assert masks[0][-2000:].mean() == pytest.approx(0.2, abs=0.03)


def test_the_window_is_bounded_and_a_large_batch_is_ranked_whole() -> None:
    """A batch over the window is ranked as a whole; 250 scores are kept."""
    generator = np.random.default_rng(3)
    scores = np.arange(1000, dtype=np.float32)

    choice = choose(scores, filled(generator), 0.1, generator)

    assert np.flatnonzero(choice.mask).tolist() == list(range(900, 1000))
    assert choice.window.entries.shape == (WINDOW, 2)


def test_bad_input_is_refused() -> None:
    """Scores of another shape, and rates outside 0..1 or NaN, are errors."""
    generator = np.random.default_rng(1)
    with pytest.raises(ArrayError, match="shape"):
        choose(np.zeros((2, 2), np.float32), ScoreWindow(), 0.5, generator)
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="rate"):
            choose(np.zeros(2, np.float32), ScoreWindow(), rate, generator)


def test_an_empty_batch_changes_nothing() -> None:
    """No scores, no choice, the same window."""
    generator = np.random.default_rng(1)
    window = filled(generator)

    choice = choose(np.empty(0, np.float32), window, 0.5, generator)

    assert choice.mask.shape == (0,)
    assert np.array_equal(choice.window.entries, window.entries)
