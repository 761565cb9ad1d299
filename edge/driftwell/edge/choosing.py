"""Pure. Which of the selected samples are sent where the budget has no room for all."""

from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.edge.filter import Verdict
from driftwell.edge.selection import Head, Observation, build_selector
from driftwell.edge.threshold import ScoreWindow, choose


class SelectionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How samples are ranked; `selection.py` describes the selectors."""

    selector: Literal["random", "entropy-band", "high-entropy", "margin"] = "random"
    wrappers: tuple[Literal["class-balanced", "non-redundant"], ...] = ()
    """Around the selector, innermost first."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of the random numbers that scores and ties are drawn with."""


class Chooser:
    """Ranks each batch against the last scores of the stream. Memory is bounded and flat."""

    def __init__(self, settings: SelectionSettings, *, classes: int) -> None:
        self._selector = build_selector(
            settings.selector, Head(classes), wrappers=settings.wrappers
        )
        self._generator = np.random.default_rng(settings.seed)
        self._window = ScoreWindow()

    def choose(
        self,
        logits: NDArray[np.float32],
        entropy: NDArray[np.float32],
        verdicts: NDArray[np.uint8],
        rate: float,
    ) -> NDArray[np.uint8]:
        """The verdicts (N,), with NOT_CHOSEN in place of SELECTED where others rank higher.

        Args:
            logits: (N, C)
            entropy: (N,), nats.
            verdicts: (N,), the filter's.
            rate: Of the batch, 0 to 1. At 1 all stay selected, and nothing is computed.
        """
        if rate >= 1:
            return verdicts
        scores = self._selector(Observation(logits, entropy, None, self._generator))
        scores = np.where(verdicts == Verdict.SELECTED, scores, np.nan).astype(np.float32)
        choice = choose(scores, self._window, rate, self._generator)
        self._window = choice.window
        left_out = (verdicts == Verdict.SELECTED) & ~choice.mask
        return np.where(left_out, np.uint8(Verdict.NOT_CHOSEN), verdicts)
