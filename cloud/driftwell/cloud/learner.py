"""One learning step of one cohort: adapt the foundation model, then distil (CEMA, Alg. 2).

Value in, value out: the same state, images and settings give the same bits on one torch
build. The step's randomness (which images are replayed) is the caller's.
"""

import math
from dataclasses import dataclass

import numpy as np

from driftwell.cloud.adaptation import AdaptableNetwork, AdaptedState
from driftwell.cloud.losses import distillation_loss, weighted_entropy
from driftwell.cloud.settings import MethodSettings
from driftwell.messages.errors import BundleError
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle


@dataclass(frozen=True, slots=True)
class CohortModels:
    """Both models of a cohort, as they are after `steps` steps on `samples` uploads."""

    foundation: AdaptedState
    edge: AdaptedState
    steps: int = 0
    """Steps of the cohort; a revert does not take any back, so no replay comes twice."""
    samples: int = 0
    """Uploads the edge model has learned from; after a revert, as many as it had then."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step led to."""

    models: CohortModels
    foundation_loss: float
    distillation_loss: float

    @property
    def is_finite(self) -> bool:
        """Whether the step may be kept."""
        return math.isfinite(self.foundation_loss + self.distillation_loss) and all(
            bool(np.isfinite(array).all()) for array in self.models.edge.arrays.values()
        )


class Learner:
    """Both networks, shared by all cohorts. Not thread safe: one step at a time."""

    def __init__(self, foundation: Bundle, edge: Bundle, method: MethodSettings) -> None:
        """Build both networks.

        Raises:
            BundleError: if the bundles do not take the same images to the same classes.
        """
        if foundation.manifest.input != edge.manifest.input:
            raise BundleError("foundation and edge bundle take different images")
        if foundation.manifest.classes != edge.manifest.classes:
            raise BundleError("foundation and edge bundle know different classes")
        self.foundation_digest = foundation.digest
        self._method = method
        self._margin_nats = method.foundation.margin * math.log(len(edge.manifest.classes))
        self._foundation = AdaptableNetwork(
            foundation,
            learning_rate=method.foundation.learning_rate,
            momentum=method.foundation.momentum,
            statistics_momentum=method.statistics.momentum,
        )
        self._edge = AdaptableNetwork(
            edge,
            learning_rate=method.distillation.learning_rate,
            momentum=method.distillation.momentum,
            statistics_momentum=method.statistics.momentum,
        )

    @property
    def source(self) -> CohortModels:
        """Where every cohort begins."""
        return CohortModels(self._foundation.source, self._edge.source)

    def step(self, models: CohortModels, uploads: Pixels, replay: Pixels) -> Step:
        """Learn from one batch of uploads, with replayed images beside them.

        Args:
            models: The cohort's models before.
            uploads: uint8 (N, H, W, C), N >= 2, each used once.
            replay: uint8 (M, H, W, C), M >= 0, seen before.
        """
        self._foundation.load(models.foundation)
        self._edge.load(models.edge)
        adapting = weighted_entropy(
            self._foundation.train(self._foundation.prepare(uploads)), self._margin_nats
        )
        self._foundation.step(adapting)
        distilling = self._distil(np.concatenate([uploads, replay]))
        after = CohortModels(
            self._foundation.save(),
            self._edge.save(),
            models.steps + 1,
            models.samples + len(uploads),
        )
        return Step(after, adapting.item(), distilling)

    def _distil(self, images: Pixels) -> float:
        settings = self._method.distillation
        teacher = self._foundation.predict(self._foundation.prepare(images))
        student = self._edge.train(self._edge.prepare(images))
        loss = distillation_loss(
            teacher,
            student,
            margin_nats=self._margin_nats,
            entropy_factor=settings.entropy,
            divergence_factor=settings.divergence,
            pseudo_label_factor=settings.pseudo_label,
            temperature=settings.temperature,
        )
        self._edge.step(loss)
        return loss.item()
