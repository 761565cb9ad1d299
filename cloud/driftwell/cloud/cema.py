"""CEMA's learner: adapt the foundation model on the uploads, then distil (CEMA, Alg. 2)."""

import math
from dataclasses import replace

import numpy as np

from driftwell.cloud.adaptation import AdaptableNetwork
from driftwell.cloud.learner import CohortModels, Step, require_same_task
from driftwell.cloud.losses import distillation_loss, weighted_entropy
from driftwell.cloud.settings import MethodSettings
from driftwell.messages.delta import Delta
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle


class CemaLearner:
    """Both networks, shared by all cohorts. Not thread safe: one step at a time."""

    def __init__(self, foundation: Bundle, edge: Bundle, method: MethodSettings) -> None:
        """Build both networks.

        Raises:
            BundleError: if the bundles do not take the same images to the same classes.
        """
        require_same_task(foundation, edge)
        if method.cema_tables is None:
            raise TypeError("the method has not CEMA's tables")
        adapting, self._distillation, statistics = method.cema_tables
        self.foundation_digest = foundation.digest
        self._margin_nats = adapting.margin * math.log(len(edge.manifest.classes))
        self._foundation = AdaptableNetwork(
            foundation,
            learning_rate=adapting.learning_rate,
            momentum=adapting.momentum,
            statistics_momentum=statistics.momentum,
        )
        self._edge = AdaptableNetwork(
            edge,
            learning_rate=self._distillation.learning_rate,
            momentum=self._distillation.momentum,
            statistics_momentum=statistics.momentum,
        )

        self.source = CohortModels(self._foundation.source, self._edge.source)
        self.start_digest: str | None = None
        self.start: tuple[CohortModels, Delta] | None = None

    def step(
        self,
        models: CohortModels,
        uploads: Pixels,
        replay: Pixels,
        generator: np.random.Generator,  # noqa: ARG002
    ) -> Step:
        """Learn from one batch of uploads, with replayed images beside them.

        Args:
            models: The cohort's models before.
            uploads: uint8 (N, H, W, C), N >= 2, each used once.
            replay: uint8 (M, H, W, C), M >= 0, seen before.
            generator: Not used: which images are replayed is all that is drawn.
        """
        self._foundation.load(models.foundation)
        self._edge.load(models.edge)
        adapting = weighted_entropy(
            self._foundation.train(self._foundation.prepare(uploads)), self._margin_nats
        )
        self._foundation.step(adapting)
        distilling = self._distil(np.concatenate([uploads, replay]))
        after = replace(
            models,
            foundation=self._foundation.save(),
            edge=self._edge.save(),
            steps=models.steps + 1,
            samples=models.samples + len(uploads),
        )
        return Step(after, adapting.item(), distilling)

    def _distil(self, images: Pixels) -> float:
        settings = self._distillation
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
