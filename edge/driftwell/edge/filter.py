"""Pure. Which samples are worth learning from: CEMA's two exclusions (ICLR 2024, section 3).

A sample is selected when E_min < H < E_max. Certain samples (H <= E_min) teach nothing;
uncertain ones (H >= E_max) teach the wrong thing. E_min is fixed; E_max follows the mean
entropy of everything seen, so that fewer samples pass as the model adapts:

    E_max(t) = lambda * E_max(0) * mean(t) / mean(warm-up)

The paper writes this as a recursion with lambda in each step; with lambda = 1 both are
the same, and with another lambda only this form stays bounded. Until `warm_up_samples`
have been seen, E_max is E_max(0). Bounds are in units of ln C, the largest entropy.
"""

import enum
import math
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray


class FilterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The filter's settings; the defaults are CEMA's."""

    e_max: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.4
    """E_max(0) / ln C. Source: CEMA, released configuration."""
    e_min: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.02
    """E_min / ln C. Source: CEMA, its result log's combined setting."""
    lambda_: Annotated[float, msgspec.Meta(gt=0, le=10)] = msgspec.field(name="lambda", default=1.0)
    """Scales the moving E_max. Source: as e_min."""
    warm_up_samples: Annotated[int, msgspec.Meta(ge=1)] = 640
    """Samples before E_max begins to move: ten batches of 64."""


class Verdict(enum.IntEnum):
    """What the filter says of one sample."""

    SELECTED = 0
    TOO_CERTAIN = 1
    TOO_UNCERTAIN = 2
    NOT_FINITE = 3
    NOT_CHOSEN = 4
    """Worth learning from, but others are more so, and the budget has no room for all."""

    @property
    def word(self) -> str:
        """The verdict as it stands in logs, metrics and predictions."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class FilterState:
    """What the filter remembers of the stream."""

    seen: int = 0
    entropy_sum: float = 0.0
    reference_mean: float | None = None
    """Mean entropy at the end of the warm-up, nats."""

    @property
    def mean(self) -> float | None:
        """Mean entropy of all samples seen, nats."""
        return self.entropy_sum / self.seen if self.seen else None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdicts on one batch, the bound they were made with, and the state after it."""

    state: FilterState
    verdicts: NDArray[np.uint8]
    entropy_max_nats: float


def entropy_bounds(
    settings: FilterSettings, state: FilterState, classes: int
) -> tuple[float, float]:
    """E_min and the present E_max, in nats."""
    largest = math.log(classes)
    upper = settings.e_max * largest
    mean = state.mean
    if state.reference_mean and mean is not None:
        upper *= settings.lambda_ * mean / state.reference_mean
    return settings.e_min * largest, upper


def judge(
    settings: FilterSettings, state: FilterState, entropy: NDArray[np.float32], classes: int
) -> Judgement:
    """Judge one batch's entropies, shape (N,), nats; E_max moves first, then the batch is judged.

    A sample whose entropy is not finite is never selected and never remembered.
    """
    finite = np.isfinite(entropy)
    seen = state.seen + int(finite.sum())
    state = replace(
        state,
        seen=seen,
        entropy_sum=state.entropy_sum + float(entropy[finite].sum(dtype=np.float64)),
    )
    if state.reference_mean is None and seen >= settings.warm_up_samples:
        state = replace(state, reference_mean=state.mean)
    lower, upper = entropy_bounds(settings, state, classes)
    verdicts = np.full(entropy.shape, Verdict.SELECTED, dtype=np.uint8)
    verdicts[entropy <= lower] = Verdict.TOO_CERTAIN
    verdicts[entropy >= upper] = Verdict.TOO_UNCERTAIN
    verdicts[~finite] = Verdict.NOT_FINITE
    return Judgement(state, verdicts, upper)
