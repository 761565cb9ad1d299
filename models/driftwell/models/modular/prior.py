"""Pure. What a device knows of its classes: how often each is, from its own labels.

A network that was trained on classes that are all as likely answers p(y | x). Where class y has
the share pi(y) instead, the answer is p(y | x) pi(y) C, rescaled (Saerens et al., 2002): the
logits plus log(C pi(y)).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SMOOTHING: Final = 0.1
"""Added to the count of every class: none is impossible."""


def log_prior(
    labels: NDArray[np.int64], classes: int, smoothing: float = SMOOTHING
) -> NDArray[np.float32]:
    """log(C pi(y)), float32 (C,), of labels (N,); 0 for all where each class is as often.

    Args:
        labels: 0 to C - 1.
        classes: C.
        smoothing: Added to the count of every class, above 0.
    """
    counts = np.bincount(labels, minlength=classes) + smoothing
    return np.asarray(np.log(counts * (classes / counts.sum())), np.float32)
