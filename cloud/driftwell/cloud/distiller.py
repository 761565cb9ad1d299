"""Driftwell's own learner: a frozen teacher, a student that learns on everything it has seen.

A step labels the uploads once with the teacher's probabilities, then takes a few steps of
Adam over the whole buffer. Every so many steps a candidate is made: averaged weights,
statistics measured with them, rounded as they will travel. The newest uploads judge it
against its parent (`gate`); nothing was learned from them by then. What passes is the next
version; what does not changes nothing, and the student learns on.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import torch

from driftwell.cloud.adaptation import AdaptedState, Arrays
from driftwell.cloud.gate import GateVerdict, judge_candidate
from driftwell.cloud.learner import CohortModels, Step, require_same_task
from driftwell.cloud.settings import MethodSettings
from driftwell.cloud.student import Student
from driftwell.cloud.teacher import Probabilities, Teacher, answer_together
from driftwell.messages.delta import AdaptableState, Delta, apply_delta, encode_delta
from driftwell.messages.images import Pixels
from driftwell.models.augmentation import augment
from driftwell.models.bundle import Bundle
from driftwell.models.statistics import StatisticsSettings

CONTEXT: Final = 64
"""Images of the buffer that stand beside the uploads in the teacher's statistics."""
CHUNK: Final = 128
"""Images whose statistics are measured together."""


class Distiller:
    """Both networks, shared by all cohorts. Not thread safe: one step at a time."""

    def __init__(
        self, foundation: Bundle, edge: Bundle, method: MethodSettings, *, start: Bundle | None
    ) -> None:
        """Build both networks.

        Args:
            foundation: Teaches.
            edge: Learns.
            method: With the tables `teacher`, `student`, `versions` and `gate`.
            start: A bundle of the edge's model whose weights cohorts begin with; None: the
                edge bundle's own.

        Raises:
            BundleError: if the bundles do not fit each other.
        """
        require_same_task(foundation, edge)
        if method.distiller_tables is None:
            raise TypeError("the method has not the distiller's tables")
        teacher, self._settings, self._versions, self._gate = method.distiller_tables
        self.foundation_digest = foundation.digest
        self._capacity = method.replay.capacity
        self._teacher = Teacher(foundation, teacher)
        self._student = Student(
            edge,
            learning_rate=self._settings.learning_rate,
            average=self._settings.average,
            moves=self._settings.moves,
            bfloat16=self._settings.bfloat16,
        )
        self._judge = edge.network(own_statistics=StatisticsSettings())  # as on the edge
        self._source = edge.source
        self.source = CohortModels(
            AdaptedState({}, {}),
            AdaptedState(dict(edge.source), {}),
        )
        self.start_digest = start.digest if start else None
        self.start: tuple[CohortModels, Delta] | None = self._begin_with(start) if start else None

    def _begin_with(self, start: Bundle) -> tuple[CohortModels, Delta]:
        delta = self._encode(start.source)
        arrays = apply_delta(self._source, delta)
        return replace(self.source, edge=AdaptedState(arrays, {})), delta

    def _encode(self, arrays: AdaptableState) -> Delta:
        return encode_delta(self._source, arrays, limit_bytes=self._versions.limit_bytes)

    def step(
        self,
        models: CohortModels,
        uploads: Pixels,
        replay: Pixels,
        generator: np.random.Generator,
    ) -> Step:
        """Learn from one batch of uploads, with the whole buffer beside them.

        Args:
            models: The cohort's models before.
            uploads: uint8 (N, H, W, C), N >= 2, each used once.
            replay: uint8 (M, H, W, C), the buffer, oldest first; `models.targets` is theirs.
            generator: Draws batches and views.
        """
        targets = np.concatenate(
            [
                self._known(models, replay),
                self._teacher.targets(uploads, _spread(replay, CONTEXT)),
            ]
        )
        images = np.concatenate([replay, uploads])
        after = replace(
            models,
            targets=targets[-self._capacity :],
            steps=models.steps + 1,
            samples=models.samples + len(uploads),
        )
        publishes = after.steps % self._versions.every == 0
        learned = len(replay) if publishes else len(images)  # the uploads are to judge
        if learned < self._settings.first:
            return Step(after, foundation_loss=0.0, distillation_loss=0.0)
        self._student.begin(models.edge.arrays, models.edge.learning)
        loss = self._learn(images[:learned], targets[:learned], generator)
        learning = self._student.end()
        after = replace(after, edge=AdaptedState(models.edge.arrays, learning))
        if not publishes:
            return Step(after, foundation_loss=0.0, distillation_loss=loss)
        return self._candidate(after, images[-self._settings.statistics_images :], uploads, loss)

    def _known(self, models: CohortModels, replay: Pixels) -> Probabilities:
        """What the teacher said of the buffer; asked again where that is not known.

        So after samples expired into the buffer, or with another capacity than before.
        """
        if len(models.targets) == len(replay) and len(replay):
            return models.targets
        return self._teacher.targets(replay, replay[:0])

    def _learn(
        self, images: Pixels, targets: Probabilities, generator: np.random.Generator
    ) -> float:
        settings = self._settings
        losses = []
        for _ in range(settings.steps):
            chosen = generator.permutation(len(images))[: settings.batch]
            views = augment(
                self._student.prepare(images[chosen]),
                generator,
                mirrors=settings.mirrors,
                shift=settings.shift,
            )
            losses.append(self._student.learn(views, torch.from_numpy(targets[chosen])))
        return float(np.mean(losses))

    def _candidate(
        self, after: CohortModels, newest: Pixels, held_out: Pixels, loss: float
    ) -> Step:
        parent = after.edge.arrays
        delta = self._encode(self._student.averaged(parent, newest, CHUNK))
        arrays = apply_delta(self._source, delta)
        verdict = self._ask(arrays, parent, after.targets[-len(held_out) :], held_out)
        if verdict.passes:
            after = replace(after, edge=AdaptedState(arrays, after.edge.learning))
        return Step(
            after,
            foundation_loss=0.0,
            distillation_loss=loss,
            delta=delta if verdict.passes else None,
            verdict=verdict,
        )

    def _ask(
        self, arrays: Arrays, parent: Arrays, teacher: Probabilities, images: Pixels
    ) -> GateVerdict:
        answers = []
        for state in (arrays, parent):
            self._judge.install(state)
            answers.append(answer_together(self._judge, images))
        return judge_candidate(self._gate, teacher=teacher, candidate=answers[0], parent=answers[1])


def _spread(images: Pixels, count: int) -> Pixels:
    """At most `count` of them, evenly spread: the newest alone may all show the same class."""
    chosen = np.linspace(0, len(images) - 1, min(count, len(images)))
    return images[chosen.round().astype(np.int64)]
