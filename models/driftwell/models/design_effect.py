"""Pure. How many images of a stream in runs are worth one: the design effect of its answers.

Streams come in runs: a shelf of one product, an hour of one sort of bird. An average over such a
run is that of its classes, and normalising other classes by it does harm. Survey statistics
know the case as cluster sampling: n images in runs say no more of the whole than n / d drawn
at random, where d, the design effect, is the variance that means of g neighbours have over
the one they would have by chance (Kish, Survey Sampling, 1965, section 5.4):

    d_g = g var(means of g answers) / var(answers),   d = max(1, max over g of d_g)

with variances summed over the classes, and g = 8, 16, 32 and 64 images, as far as there are
enough groups. In random order each d_g is 1 on average, however few classes there are; the largest
of them is some tenths above, with two classes and one batch 1.4. Ours is to measure it on the
network's own answers: they tell runs apart earlier than features do, and cost nothing.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

GROUP: Final = 8
"""Images in the smallest group."""
LARGEST: Final = 64
"""Images in the largest group, and the largest design effect."""
MIN_GROUPS: Final = 4
"""Of fewer groups a variance is mostly chance."""
GROUPS: Final = 128
"""Smallest groups that are remembered: 1,024 images, about as many as own statistics are of."""
LEAST_VARIANCE: Final = 1e-9
"""Of answers that are not all the same."""


class DesignEffect:
    """The design effect of the newest answers; of a group only its mean and one number are kept."""

    def __init__(self) -> None:
        """Begin with 1, which is random order."""
        self.value = 1.0
        """Images that are worth one; 1 to 64."""
        self._means: NDArray[np.float64] | None = None
        """Of the answers of whole groups, (groups, C), oldest first; None: there is none."""
        self._squares: NDArray[np.float64] | None = None
        """Mean squared length of a group's answers, (groups,)."""
        self._waiting: NDArray[np.float64] | None = None
        """Answers of the group that is not whole yet, (images, C)."""

    def restart(self) -> None:
        """Forget the answers, which were another domain's; the value holds: runs go on."""
        self._means = self._squares = self._waiting = None

    def take_in(self, logits: NDArray[np.float32]) -> None:
        """Take a batch of answers in, (N, C), N >= 1; one that is not finite changes nothing."""
        if not np.isfinite(logits).all():
            return
        exponent = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        answers = _joined(self._waiting, exponent / exponent.sum(axis=1, keepdims=True))
        whole = len(answers) // GROUP * GROUP
        self._waiting = answers[whole:]
        if not whole:
            return
        groups = answers[:whole].reshape(-1, GROUP, answers.shape[1])
        squares = np.square(groups).sum(axis=(1, 2)) / GROUP
        self._means = _joined(self._means, groups.mean(axis=1))[-GROUPS:]
        self._squares = _joined(self._squares, squares)[-GROUPS:]
        if len(self._means) >= MIN_GROUPS:
            self.value = _measure(self._means, float(self._squares.mean()))


def _joined(older: NDArray[np.float64] | None, newer: NDArray[np.float64]) -> NDArray[np.float64]:
    return newer if older is None else np.concatenate([older, newer])


def _measure(means: NDArray[np.float64], square: float) -> float:
    """The design effect behind means (groups, C) of answers of this mean squared length."""
    mean = means.mean(axis=0)
    variance = square - float(mean @ mean)
    if variance < LEAST_VARIANCE:  # one and the same all along: a single image had told it
        return float(LARGEST)
    largest, size = 1.0, GROUP
    while size <= LARGEST and len(means) >= MIN_GROUPS:
        between = float(means.var(axis=0, ddof=1).sum())
        largest = max(largest, size * between / variance)
        even = means[len(means) % 2 :]  # the newest
        means, size = (even[::2] + even[1::2]) / 2, 2 * size
    return min(largest, float(LARGEST))
