"""Pure. From logits to what the filter judges by: entropy, confidence, class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Scores:
    """One row an image, each array of shape (N,)."""

    label: NDArray[np.uint16]
    confidence: NDArray[np.float32]
    """Softmax probability of `label`, 0 to 1."""
    entropy: NDArray[np.float32]
    """Nats, 0 to ln C. NaN where the network's output was not finite."""


def score(logits: NDArray[np.float32], log_prior: NDArray[np.float32] | None = None) -> Scores:
    """Score float32 logits of shape (N, C).

    H(p) = -sum_c p_c ln p_c with p = softmax(logits) (CEMA, section 3), computed from log
    probabilities so that a probability of 0 adds 0 and not NaN.

    Args:
        logits: The network's.
        log_prior: Where it is known how often each class is here, what its logits are short of,
            finite (C,). Label and confidence are with it. Entropy is the network's own all the
            same: what is worth learning from does not depend on what else is known.
    """
    finite = np.isfinite(logits).all(axis=1)
    shifted, probability, total = _softmax(logits)
    # ln p = shifted - ln total; where the logits are finite shifted is too, so 0 * shifted is 0.
    entropy = np.log(total[:, 0]) - (probability * shifted).sum(axis=1)
    known = logits if log_prior is None else logits + log_prior
    if log_prior is not None:
        _, probability, _ = _softmax(known)
    return Scores(
        label=known.argmax(axis=1).astype(np.uint16),
        confidence=probability.max(axis=1).astype(np.float32),
        entropy=np.where(finite, np.maximum(entropy, 0), np.nan).astype(np.float32),
    )


def _softmax(
    logits: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Logits less the largest of their row, probabilities, and what these were divided by."""
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
    shifted = np.maximum(shifted, np.finfo(np.float32).min)  # -1e38 - 3e38 is -infinity
    exponent = np.exp(shifted)
    total = exponent.sum(axis=1, keepdims=True)
    return shifted, exponent / total, total
