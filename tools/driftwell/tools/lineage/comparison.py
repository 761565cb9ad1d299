"""Pure. How the answers of two versions to the same images differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Answers:
    """What one version says of N images."""

    prediction: NDArray[np.uint16]
    """(N,): classes."""
    entropy: NDArray[np.float32]
    """(N,): nats; NaN where the network's output was not finite."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions on one probe set."""

    images: int
    changed: int
    pairs: tuple[tuple[str, str, int], ...]
    """From which class to which, how many images; the most frequent first."""
    entropy_nats: tuple[float, float]
    """The mean of each."""
    accuracy_percent: tuple[float, float] | None
    """Of each, on the images with a label; None if there is none."""


def compare(
    first: Answers,
    second: Answers,
    *,
    classes: Sequence[str],
    labels: NDArray[np.int64] | None,
    pairs: int,
) -> Comparison:
    """Compare answers to the same images, at most `pairs` changes by name.

    Args:
        first: Of one version, N >= 1 images.
        second: Of the other.
        classes: Names by number.
        labels: (N,), below 0 where the class is not known.
        pairs: How many changes to name.
    """
    differs = first.prediction != second.prediction
    moves = Counter(
        zip(first.prediction[differs].tolist(), second.prediction[differs].tolist(), strict=True)
    )
    known = labels is not None and bool((labels >= 0).any())
    return Comparison(
        images=len(differs),
        changed=int(differs.sum()),
        pairs=tuple((classes[a], classes[b], n) for (a, b), n in moves.most_common(pairs)),
        entropy_nats=(_mean(first.entropy), _mean(second.entropy)),
        accuracy_percent=(
            (accuracy_percent(first, labels), accuracy_percent(second, labels))
            if labels is not None and known
            else None
        ),
    )


def accuracy_percent(answers: Answers, labels: NDArray[np.int64]) -> float:
    """Percent of the images with a label (0 or more) that were answered rightly."""
    known = labels >= 0
    return 100 * float(np.mean(answers.prediction[known] == labels[known]))


def _mean(entropy: NDArray[np.float32]) -> float:
    finite = entropy[np.isfinite(entropy)]
    return float(finite.mean(dtype=np.float64)) if finite.size else float("nan")
