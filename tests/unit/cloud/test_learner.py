"""One learning step: value in, value out."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import tiny

from driftwell.cloud.adaptation import AdaptedState
from driftwell.cloud.cema import CemaLearner
from driftwell.cloud.learner import CohortModels, Learner
from driftwell.cloud.settings import MethodSettings
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError
from driftwell.models.bundle import Bundle, create_bundle

UPLOADS, REPLAY = tiny.make_images(32), tiny.make_images(16, seed=1)


def bits(models: CohortModels) -> list[str]:
    states = (models.foundation, models.edge)
    return [digest_arrays(part) for s in states for part in (s.arrays, s.learning)]


def test_the_same_inputs_give_the_same_bits(
    learner: Learner, foundation: Bundle, edge: Bundle, method: MethodSettings
) -> None:
    """Twice on one learner with other work in between, and once on another learner."""
    first = learner.step(learner.source, UPLOADS, REPLAY, tiny.make_generator())
    onward = learner.step(first.models, REPLAY, UPLOADS, tiny.make_generator())
    again = learner.step(learner.source, UPLOADS, REPLAY, tiny.make_generator())
    other = CemaLearner(foundation, edge, method).step(
        learner.source, UPLOADS, REPLAY, tiny.make_generator()
    )

    assert bits(first.models) == bits(again.models) == bits(other.models)
    assert first.distillation_loss == again.distillation_loss == other.distillation_loss
    assert bits(onward.models) != bits(first.models)


def test_both_models_move_and_the_source_does_not(
    learner: Learner, foundation: Bundle, edge: Bundle
) -> None:
    """Steps and samples are counted; the bundles keep every bit."""
    sources = bits(learner.source)
    weights = [digest_arrays(bundle.weights) for bundle in (foundation, edge)]

    step = learner.step(learner.source, UPLOADS, REPLAY, tiny.make_generator())

    assert (step.models.steps, step.models.samples) == (1, 32)
    assert step.is_finite
    for after, before in zip(bits(step.models)[::2], sources[::2], strict=True):
        assert after != before
    assert bits(learner.source) == sources
    assert weights == [digest_arrays(bundle.weights) for bundle in (foundation, edge)]
    assert [b.manifest.source_digest for b in (foundation, edge)] == sources[::2]


def test_momentum_is_part_of_the_state(learner: Learner) -> None:
    """Without its momentum a second step leads elsewhere."""
    first = learner.step(learner.source, UPLOADS, REPLAY, tiny.make_generator()).models
    bare = replace(first, edge=AdaptedState(first.edge.arrays, {}))

    with_it, without = (
        learner.step(models, REPLAY, REPLAY[:0], tiny.make_generator()) for models in (first, bare)
    )

    assert bits(with_it.models)[2] != bits(without.models)[2]
    assert {
        name.removeprefix("momentum/") for name in first.edge.learning
    } <= first.edge.arrays.keys()


def test_repeated_steps_lower_the_loss(learner: Learner) -> None:
    """On one and the same batch the foundation's loss falls."""
    models, losses = learner.source, []
    for _ in range(30):
        step = learner.step(models, UPLOADS, REPLAY, tiny.make_generator())
        models = step.models
        losses.append(step.foundation_loss)

    assert losses[-1] < losses[1]


def test_a_step_that_is_not_finite_says_so(learner: Learner) -> None:
    """NaN in a model's state comes out as a step that may not be kept."""
    broken = {name: np.full_like(array, np.nan) for name, array in
              learner.source.edge.arrays.items()}  # fmt: skip
    models = replace(learner.source, edge=AdaptedState(broken, {}), steps=5)

    assert not learner.step(models, UPLOADS, REPLAY, tiny.make_generator()).is_finite


def test_bundles_must_agree(
    tmp_path: Path, foundation: Bundle, edge: Bundle, method: MethodSettings
) -> None:
    """Other classes, or another input size, are refused before anything is learned."""
    weights = tiny.weights_of(tiny.edge())
    model, preprocessing = "tests.tiny:edge", tiny.PREPROCESSING
    renamed = create_bundle(tmp_path / "a", model=model, weights=weights, shape=tiny.SHAPE,
                            classes=("a", "b", "c", "d"), preprocessing=preprocessing)  # fmt: skip
    larger = create_bundle(tmp_path / "b", model=model, weights=weights, shape=(16, 16, 1),
                           classes=tiny.CLASSES, preprocessing=preprocessing)  # fmt: skip

    with pytest.raises(BundleError, match="classes"):
        CemaLearner(foundation, renamed, method)
    with pytest.raises(BundleError, match="images"):
        CemaLearner(foundation, larger, method)
    assert msgspec.structs.replace(method, name="x").digest != method.digest
