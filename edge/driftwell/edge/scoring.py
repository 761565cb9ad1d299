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


def score(logits: NDArray[np.float32]) -> Scores:
    """Score float32 logits of shape (N, C).

    H(p) = -sum_c p_c ln p_c with p = softmax(logits) (CEMA, section 3), computed from log
    probabilities so that a probability of 0 adds 0 and not NaN.
    """
    finite = np.isfinite(logits).all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = logits - logits.max(axis=1, keepdims=True)
    shifted = np.maximum(shifted, np.finfo(np.float32).min)  # -1e38 - 3e38 is -infinity
    exponent = np.exp(shifted)
    total = exponent.sum(axis=1, keepdims=True)
    probability = exponent / total
    # ln p = shifted - ln total; where the logits are finite shifted is too, so 0 * shifted is 0.
    entropy = np.log(total[:, 0]) - (probability * shifted).sum(axis=1)
    return Scores(
        label=logits.argmax(axis=1).astype(np.uint16),
        confidence=probability.max(axis=1).astype(np.float32),
        entropy=np.where(finite, np.maximum(entropy, 0), np.nan).astype(np.float32),
    )
