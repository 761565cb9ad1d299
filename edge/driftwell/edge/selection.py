"""Pure. How much each sample of a batch is worth sending: scores behind one interface.

A selector maps what a forward pass gave to one finite number of 0 or more a sample; higher
is more worth sending. NaN says that the network's output was not finite, and the sample is
never chosen. Only the order counts: `threshold.choose` turns scores into a choice, and
`budget.rate` says how choosy it is.

    selector = build_selector("margin", Head(classes=10))
    scores = selector(Observation(logits, entropy, None, generator))

A selector that remembers the stream (`representative` and the wrappers) is an object with a
bounded memory, fed by its own calls: give every device its own, and call it once a batch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.centres import OnlineCentres
from driftwell.messages.errors import ArrayError, SettingsError

Array = NDArray[np.float32]

E_MAX: Final = 0.4
E_MIN: Final = 0.02
"""Bounds of CEMA's band, in units of ln C (ICLR 2024)."""
DRAWS: Final = 4
"""Noisy copies of a sample's features; their mean is the disagreement."""
NOISE: Final = 0.5
"""Standard deviation of the noise, in units of the features' root mean square."""
MOMENTUM: Final = 0.9
"""Of the mean prediction. Source: ETA (ICML 2022)."""
BALANCE_IMAGES: Final = 1000
"""Images after which a class frequency has mostly forgotten what was before."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The network's last layer, as far as it is known."""

    classes: int
    """C"""
    weight: Array | None = None
    """(C, D)"""
    bias: Array | None = None
    """(C,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What one forward pass gave for N images; the arrays are not changed."""

    logits: Array
    """(N, C)"""
    entropy: Array
    """(N,), nats, NaN where the logits were not finite, as `scoring.score` gives it."""
    features: Array | None
    """(N, D), the input of the last layer; None where a runtime does not give it."""
    generator: np.random.Generator
    """Randomness for those that need it; how much one takes depends on N and D only."""

    def __post_init__(self) -> None:
        shape = self.logits.shape
        if len(shape) != 2 or shape[1] < 1 or self.entropy.shape != shape[:1]:  # noqa: PLR2004
            raise ArrayError(f"logits {self.logits.shape} with entropies {self.entropy.shape}")
        if self.features is None:
            return
        if self.features.ndim != 2 or len(self.features) != len(self.logits):  # noqa: PLR2004
            raise ArrayError(f"logits {self.logits.shape} with features {self.features.shape}")


Selector = Callable[[Observation], Array]
"""Scores of shape (N,), float32: finite and at least 0, or NaN."""


def softmax(logits: Array | NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of logits (N, C), float64; a row that is not finite is NaN as a whole."""
    wide = logits.astype(np.float64)
    wide[~np.isfinite(wide).all(axis=1)] = np.nan
    exponent = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))


def _random(observation: Observation) -> Array:
    drawn = observation.generator.random(len(observation.logits))
    return _where_finite(observation, drawn)


def _entropy_band(observation: Observation) -> Array:
    # 1 in the middle of CEMA's band, 1/2 at its bounds, and towards 0 outside.
    largest = math.log(max(2, observation.logits.shape[1]))
    middle = (E_MAX + E_MIN) / 2 * largest
    half = (E_MAX - E_MIN) / 2 * largest
    return _where_finite(observation, 1 / (1 + np.abs(observation.entropy - middle) / half))


def _high_entropy(observation: Observation) -> Array:
    return _where_finite(observation, observation.entropy)


def _margin(observation: Observation) -> Array:
    probability = softmax(observation.logits)
    if probability.shape[1] == 1:
        return _where_finite(observation, np.zeros(len(probability)))
    top = np.partition(probability, -2, axis=1)
    return _where_finite(observation, 1 - (top[:, -1] - top[:, -2]))


class _Disagreement:
    """Mean total variation, 0 to 1, of the prediction under Gaussian noise on the features.

    The perturbation sensitivity of EATTA (CVPR 2025), here in units of each sample's own
    feature size, so that one setting serves all networks. Costs DRAWS passes of the head.
    """

    def __init__(self, head: Head) -> None:
        if head.weight is None or head.bias is None:
            raise SettingsError("the selector 'disagreement' needs the head's weight and bias")
        if head.weight.ndim != 2 or head.bias.shape != head.weight.shape[:1]:  # noqa: PLR2004
            raise ArrayError(f"head of {head.weight.shape} and {head.bias.shape}")
        self._weight, self._bias = head.weight, head.bias

    def __call__(self, observation: Observation) -> Array:
        features = _features(observation, self._weight.shape[1]).astype(np.float64)
        size = np.sqrt(np.mean(features**2, axis=1, keepdims=True))
        settled = self._predict(features)
        change = np.zeros(len(features))
        for _ in range(DRAWS):
            noise = observation.generator.standard_normal(features.shape)
            with np.errstate(invalid="ignore"):  # infinite features give NaN, and are left out
                disturbed = self._predict(features + NOISE * size * noise)
            change += np.abs(disturbed - settled).sum(axis=1) / 2
        return _where_finite(observation, change / DRAWS)

    def _predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return softmax(features @ self._weight.T + self._bias)


class _Representative:
    """Distance of the features to the nearest of at most MAX_CENTRES centres of the stream.

    The novelty half of CAA's score (CVPR 2026). What the centres do not cover scores high.
    """

    def __init__(self) -> None:
        self._centres = OnlineCentres()

    def __call__(self, observation: Observation) -> Array:
        features = _features(observation, None)
        return _where_finite(observation, self._centres.distances_then_learn(features))


class ClassBalanced:
    """A selector's scores, each divided by its class's moving frequency among predictions.

    The class weights of DELTA (ICLR 2023): 1 / (C z + 1/C), with z the moving frequency, so
    a class that never came weighs C, and all weigh about 1 where they come equally often.
    """

    def __init__(self, inner: Selector, head: Head) -> None:
        self._inner = inner
        self._frequency = np.full(head.classes, 1 / head.classes)

    def __call__(self, observation: Observation) -> Array:
        """Scores with the frequencies before the batch; then the batch is counted."""
        classes = len(self._frequency)
        if observation.logits.shape[1] != classes:
            raise ArrayError(f"logits {observation.logits.shape} for {classes} classes")
        scores = self._inner(observation)
        labels = observation.logits.argmax(axis=1)
        weights = 1 / (classes * self._frequency + 1 / classes)
        counted = np.bincount(labels[np.isfinite(observation.entropy)], minlength=classes)
        seen = int(counted.sum())
        if seen:
            keep = math.exp(-seen / BALANCE_IMAGES)
            self._frequency = keep * self._frequency + (1 - keep) * counted / seen
        return _where_finite(observation, scores * weights[labels])


class NonRedundant:
    """A selector's scores, less what resembles the mean prediction: times 1 - cosine.

    The cosine of ETA's redundancy filter (ICML 2022), as a weight in place of a margin, and
    with the mean of all predictions in place of those kept.
    """

    def __init__(self, inner: Selector, head: Head) -> None:
        self._inner = inner
        self._mean = np.full(head.classes, 1 / head.classes)

    def __call__(self, observation: Observation) -> Array:
        """Scores with the mean before the batch; then the mean moves."""
        if observation.logits.shape[1] != len(self._mean):
            raise ArrayError(f"logits {observation.logits.shape} for {len(self._mean)} classes")
        scores = self._inner(observation)
        probability = softmax(observation.logits)
        lengths = np.linalg.norm(probability, axis=1) * np.linalg.norm(self._mean)
        resemblance = np.clip(probability @ self._mean / lengths, 0, 1)
        finite = probability[np.isfinite(probability).all(axis=1)]
        if len(finite):
            self._mean = MOMENTUM * self._mean + (1 - MOMENTUM) * finite.mean(axis=0)
        return _where_finite(observation, scores * (1 - resemblance))


SELECTORS: Final[Mapping[str, Callable[[Head], Selector]]] = {
    "random": lambda _: _random,
    "entropy-band": lambda _: _entropy_band,
    "high-entropy": lambda _: _high_entropy,
    "margin": lambda _: _margin,
    "disagreement": _Disagreement,
    "representative": lambda _: _Representative(),
}
"""Builders by name."""

WRAPPERS: Final[Mapping[str, Callable[[Selector, Head], Selector]]] = {
    "class-balanced": ClassBalanced,
    "non-redundant": NonRedundant,
}
"""Builders of selectors around a selector."""


def build_selector(name: str, head: Head, *, wrappers: Sequence[str] = ()) -> Selector:
    """A fresh selector, with wrappers around it, the first one innermost.

    Raises:
        SettingsError: if a name is unknown, or the selector needs what `head` does not have.
        ArrayError: if the head's shapes do not fit.
    """
    if name not in SELECTORS:
        raise SettingsError(f"unknown selector {name!r}; there are {', '.join(SELECTORS)}")
    selector = SELECTORS[name](head)
    for wrapper in wrappers:
        if wrapper not in WRAPPERS:
            raise SettingsError(f"unknown wrapper {wrapper!r}; there are {', '.join(WRAPPERS)}")
        selector = WRAPPERS[wrapper](selector, head)
    return selector


def _features(observation: Observation, width: int | None) -> Array:
    features = observation.features
    if features is None:
        raise ArrayError("this selector needs features, and the network gave none")
    if width is not None and features.shape[1] != width:
        raise ArrayError(f"features {features.shape} for a head of {width}")
    return features


def _where_finite(
    observation: Observation, scores: NDArray[np.float64] | NDArray[np.float32]
) -> Array:
    finite = np.isfinite(observation.entropy) & np.isfinite(scores)
    return np.where(finite, scores, np.nan).astype(np.float32)
