"""Pure. What statistics are worth while few classes were in front of the camera.

Streams come in runs: a shelf of one product, an hour of one sort of bird. The average over such
a run is that of its classes, and normalising other classes by it does harm. So the images
behind the average count as fewer, by the classes that the network has answered meanwhile:

    k = exp(H(mean answer)),   trust = min(1, k / (0.8 C)) ** power

The mean is taken with the very weights of the statistics. 0.8 C is what C even classes still
look like in a batch of 64. Our own; NOTE (Gong et al., NeurIPS 2022) balances a memory instead.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

EVEN: Final = 0.8


class Coverage:
    """The mean answer behind a network's own statistics, and what it makes these worth."""

    def __init__(self, rate: float, power: float) -> None:
        """Begin with full trust; `rate` is that of the statistics."""
        self._rate = rate
        self._power = power
        self._mean: NDArray[np.float64] | None = None
        self._weight = 0.0
        self.trust = 1.0
        """Share of the images that count, 0 to 1."""

    def restart(self) -> None:
        """The statistics begin anew; the trust holds until the next answers: runs go on."""
        self._mean, self._weight = None, 0.0

    def take_in(self, logits: NDArray[np.float32]) -> None:
        """Take a batch of answers in, (N, C), N >= 1; one that is not finite changes nothing."""
        if not self._power or not np.isfinite(logits).all():
            return
        exponent = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        batch = (exponent / exponent.sum(axis=1, keepdims=True)).mean(axis=0)
        share = 1 - (1 - self._rate) ** len(logits)
        self._weight += share * (1 - self._weight)
        before = batch if self._mean is None else self._mean
        self._mean = before + share / self._weight * (batch - before)
        entropy = -float((self._mean * np.log(np.maximum(self._mean, 1e-12))).sum())
        classes = np.exp(entropy) / (EVEN * logits.shape[1])
        self.trust = float(min(1.0, classes) ** self._power)
