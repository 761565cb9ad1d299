"""Pure. Whether a candidate may be published: label-free, on uploads it has not learned from.

Candidate and parent answer the same recent images. The teacher's probabilities stand for the
labels. Two things are asked:

- agreement: the candidate's cross entropy with the teacher is not above the parent's by more
  than `tolerance` standard errors of the paired difference;
- collapse: the classes it answers with are not fewer than the teacher's. With the marginal
  p = mean of the answers, the effective number of classes exp(H(p)) must be at least
  `diversity` times the teacher's.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from driftwell.cloud.settings import GateSettings

Probabilities = NDArray[np.float32]
Reason = Literal["", "not-finite", "disagreement", "collapse"]

_SMALLEST = 1e-7


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What the gate says, and from which numbers."""

    reason: Reason
    """Why the candidate is refused; empty: it passes."""
    loss_change_nats: float
    """Mean cross entropy with the teacher, candidate less parent."""
    standard_error_nats: float
    diversity: float
    """Effective number of classes it answers with, over the teacher's."""

    @property
    def passes(self) -> bool:
        """Whether the candidate may be published."""
        return self.reason == ""


def judge_candidate(
    settings: GateSettings,
    *,
    teacher: Probabilities,
    candidate: Probabilities,
    parent: Probabilities,
) -> GateVerdict:
    """Judge a candidate by its answers, each (N, C), N >= 1, to the same held-out images.

    Args:
        settings: How strict.
        teacher: What stands for the truth.
        candidate: Of the version to be.
        parent: Of the version that devices run.
    """
    if not np.isfinite(candidate).all():
        return GateVerdict("not-finite", np.inf, 0.0, 0.0)
    change = _cross_entropy(teacher, candidate) - _cross_entropy(teacher, parent)
    mean = float(change.mean())
    error = float(change.std(ddof=1) / np.sqrt(len(change))) if len(change) > 1 else np.inf
    diversity = effective_classes(candidate) / effective_classes(teacher)
    reason: Reason = ""
    if diversity < settings.diversity:
        reason = "collapse"
    elif mean > settings.tolerance * error:
        reason = "disagreement"
    return GateVerdict(reason, mean, error, diversity)


def effective_classes(answers: Probabilities) -> float:
    """exp(H(p)) of the classes answered, 1 to C; p is how often each class is the answer."""
    counts = np.bincount(answers.argmax(axis=1), minlength=answers.shape[1])
    share = counts[counts > 0] / len(answers)
    return float(np.exp(-(share * np.log(share)).sum()))


def _cross_entropy(teacher: Probabilities, answers: Probabilities) -> NDArray[np.float64]:
    logarithms = np.log(np.maximum(answers.astype(np.float64), _SMALLEST))
    return np.asarray(-(teacher * logarithms).sum(axis=1))
