"""Pure. Online k-means: a bounded number of centres that follow a stream of features."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.errors import ArrayError

MAX_CENTRES: Final = 32
"""As many as CAA (CVPR 2026) keeps candidates."""
MEMORY: Final = 500
"""Samples a centre weighs at most, so that it goes on moving."""
LARGEST: Final = 1e18
"""A feature beyond this is no feature: its square would not be finite in float32."""


class OnlineCentres:
    """At most `limit` centres; the first samples are the first centres.

    Sculley (WWW 2010), algorithm 1: a centre moves towards the mean of the samples that are
    nearest to it, by their share of all that it ever got, here of at most MEMORY.
    """

    def __init__(self, limit: int = MAX_CENTRES) -> None:
        self._limit = limit
        self._centres = np.empty((0, 0), dtype=np.float64)
        self._counts = np.empty(0, dtype=np.float64)

    def __len__(self) -> int:
        return len(self._centres)

    def distances_then_learn(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Euclidean distance of each row of (N, D) to the nearest centre, shape (N,); then move.

        All rows are measured against the centres as they were before the batch; without any,
        all distances are 0. A row that is not finite, or larger than LARGEST, gives NaN and
        moves nothing.

        Raises:
            ArrayError: if D is another than before.
        """
        if len(self) and features.shape[1] != self._centres.shape[1]:
            raise ArrayError(f"features {features.shape} for centres {self._centres.shape}")
        usable = (np.abs(features) <= LARGEST).all(axis=1)
        rows = features[usable].astype(np.float64)
        result = np.full(len(features), np.nan)
        result[usable] = self._squares(rows).min(axis=1) ** 0.5 if len(self) else 0.0
        self._learn(rows)
        return result

    def _squares(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        # |a - b|^2 = |a|^2 - 2ab + |b|^2 needs no (N, K, D) array; rounding may go below 0.
        products = rows @ self._centres.T
        squares = (rows**2).sum(axis=1)[:, None] - 2 * products + (self._centres**2).sum(axis=1)
        return np.asarray(np.maximum(squares, 0))

    def _learn(self, rows: NDArray[np.float64]) -> None:
        free = self._limit - len(self)
        if free and len(rows):
            first = rows[:free]
            self._centres = np.concatenate([self._centres.reshape(-1, rows.shape[1]), first])
            self._counts = np.concatenate([self._counts, np.ones(len(first))])
            rows = rows[free:]
        if len(rows) == 0:
            return
        nearest = self._squares(rows).argmin(axis=1)
        arrived = np.bincount(nearest, minlength=len(self)).astype(np.float64)
        sums = np.zeros_like(self._centres)
        np.add.at(sums, nearest, rows)
        moved = arrived > 0
        self._counts = np.minimum(self._counts + arrived, MEMORY)
        share = np.minimum(arrived[moved] / self._counts[moved], 1)[:, None]
        means = sums[moved] / arrived[moved][:, None]
        self._centres[moved] += share * (means - self._centres[moved])
