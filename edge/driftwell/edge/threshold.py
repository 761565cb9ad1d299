"""Pure. Which samples of a batch are chosen: those above a running quantile of the scores.

A sample is chosen if its score is among the highest `rate` of the last WINDOW scores, the
present batch included: the (1 - rate)-quantile of WISE. The scores only order samples, so a
scale that drifts does no harm. Each score gets a random number when it comes, and equal
scores are ordered by it; so a constant score makes a random choice at the same rate.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.errors import ArrayError

WINDOW: Final = 250
"""Scores remembered. Source: WISE."""


def _none() -> NDArray[np.float64]:
    return np.empty((0, 2), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreWindow:
    """The last finite scores, oldest first: float64 (M, 2), score and lot, M at most WINDOW."""

    entries: NDArray[np.float64] = field(default_factory=_none)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The mask of the chosen samples, bool (N,), and the window after the batch."""

    mask: NDArray[np.bool_]
    window: ScoreWindow


def choose(
    scores: NDArray[np.float32],
    window: ScoreWindow,
    rate: float,
    generator: np.random.Generator,
) -> Choice:
    """Choose among scores of shape (N,), higher is better, at a rate of 0 to 1.

    At rate 0 nothing is chosen, at rate 1 every finite score. One that is not finite is
    never chosen and never remembered. The generator is asked for N numbers, whatever the
    scores are.

    Raises:
        ArrayError: if the scores are not of shape (N,).
        ValueError: if the rate is not in 0..1.
    """
    if scores.ndim != 1:
        raise ArrayError(f"scores have shape {scores.shape}")
    if not 0 <= rate <= 1:
        raise ValueError(f"a rate of {rate}")
    lots = generator.random(len(scores))
    finite = np.isfinite(scores)
    fresh = np.column_stack([scores.astype(np.float64), lots])[finite]
    both = np.concatenate([window.entries, fresh])[-max(WINDOW, len(fresh)) :]
    order = np.lexsort((both[:, 1], both[:, 0]))[::-1]
    above = np.empty(len(both), dtype=np.int64)  # how many are ordered before each
    above[order] = np.arange(len(both))
    mask = np.zeros(scores.shape, dtype=np.bool_)
    mask[finite] = above[len(both) - len(fresh) :] < rate * len(both)
    return Choice(mask, ScoreWindow(both[-WINDOW:]))
