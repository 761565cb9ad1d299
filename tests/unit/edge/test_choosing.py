"""Choosing among selected samples."""

import numpy as np
import pytest

from driftwell.edge.choosing import Chooser, SelectionSettings
from driftwell.edge.filter import Verdict
from driftwell.edge.scoring import score

CLASSES = 4


def choose(chooser: Chooser, rate: float, seed: int = 0, count: int = 200) -> np.ndarray:
    logits = 3 * np.random.default_rng(seed).standard_normal((count, CLASSES), dtype=np.float32)
    verdicts = np.full(count, Verdict.SELECTED, np.uint8)
    verdicts[::4] = Verdict.TOO_CERTAIN
    return chooser.choose(logits, score(logits).entropy, verdicts, rate)


@pytest.mark.parametrize("selector", ["random", "entropy-band", "high-entropy", "margin"])
def test_about_the_rate_is_chosen_of_what_the_filter_selected(selector: str) -> None:
    """The rest is `not-chosen`; what the filter refused keeps its verdict."""
    chooser = Chooser(SelectionSettings(selector=selector), classes=CLASSES)  # type: ignore[arg-type]
    verdicts = np.concatenate([choose(chooser, 0.3, seed) for seed in range(10)])

    assert (verdicts[::4] == Verdict.TOO_CERTAIN).all()
    selected = np.count_nonzero(verdicts == Verdict.SELECTED)
    assert selected == pytest.approx(0.3 * 0.75 * len(verdicts), rel=0.1)
    assert np.count_nonzero(verdicts == Verdict.NOT_CHOSEN) == 0.75 * len(verdicts) - selected


def test_at_rate_one_nothing_changes() -> None:
    """And no random number is drawn: a later choice is the same."""
    used, unused = (Chooser(SelectionSettings(), classes=CLASSES) for _ in range(2))

    assert np.count_nonzero(choose(used, 1.0) == Verdict.SELECTED) == 150
    assert np.array_equal(choose(used, 0.5), choose(unused, 0.5))


def test_a_score_ranks() -> None:
    """`high-entropy` chooses samples of higher entropy than those it leaves."""
    chooser = Chooser(SelectionSettings(selector="high-entropy"), classes=CLASSES)
    logits = 3 * np.random.default_rng(0).standard_normal((200, CLASSES), dtype=np.float32)
    entropy = score(logits).entropy
    verdicts = chooser.choose(logits, entropy, np.zeros(200, np.uint8), 0.4)

    assert (
        entropy[verdicts == Verdict.SELECTED].min() >= entropy[verdicts == Verdict.NOT_CHOSEN].max()
    )
