"""Our own learner on tiny models: it learns, is the same again, and asks the gate first."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import tiny

from driftwell.cloud.cohort import decode_models, encode_models
from driftwell.cloud.distiller import Distiller
from driftwell.cloud.learner import CohortModels, Step
from driftwell.cloud.replay import step_generator
from driftwell.cloud.settings import MethodSettings, method_document
from driftwell.messages.delta import apply_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle, create_bundle

BATCH = 32


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The edge's bundle, all of whose weights may move."""
    return bundle(tmp_path_factory.mktemp("bundle") / "edge", seed=0)


def bundle(folder: Path, seed: int, model: str = "edge") -> Bundle:
    return create_bundle(
        folder,
        model=f"tests.tiny:{model}",
        weights=tiny.weights_of(getattr(tiny, model)(), seed),
        shape=tiny.SHAPE,
        classes=tiny.CLASSES,
        preprocessing=tiny.PREPROCESSING,
        scope="all",
    )


def method(**student: object) -> MethodSettings:
    document = method_document("driftwell")
    settings = msgspec.convert(document, MethodSettings)
    assert settings.student is not None
    assert settings.versions is not None
    return msgspec.structs.replace(
        settings,
        student=msgspec.structs.replace(
            settings.student, **{"first": BATCH, "batch": 16, "learning_rate": 0.01, **student}
        ),
        versions=msgspec.structs.replace(settings.versions, every=2, limit_bytes=2048),
    )


def steps(learner: Distiller, count: int, models: CohortModels | None = None) -> list[Step]:
    """So many steps of a stream; the buffer holds all that was learned."""
    models = models or learner.source
    made: list[Step] = []
    for number in range(models.steps, models.steps + count):
        replay = stream(number * BATCH)
        uploads = tiny.make_images(BATCH, seed=number)
        step = learner.step(models, uploads, replay, step_generator(0, "cam-1", number))
        made.append(step)
        models = step.models
    return made


def stream(images: int) -> Pixels:
    parts = [tiny.make_images(BATCH, seed=number) for number in range(images // BATCH)]
    return np.concatenate([tiny.make_images(0), *parts])


def bits(models: CohortModels) -> list[str]:
    parts = (models.edge.arrays, models.edge.learning, {"targets": models.targets})
    return [digest_arrays(part) for part in parts]


def test_it_comes_nearer_to_the_teacher(foundation: Bundle, edge: Bundle) -> None:
    """The loss of later steps is below that of the first; versions are made, and move all."""
    made = steps(Distiller(foundation, edge, method(), start=None), 8)

    learned = [step.distillation_loss for step in made if step.distillation_loss]
    versions = [step for step in made if step.delta is not None]
    assert learned[-1] < learned[0]
    assert versions
    newest = versions[-1].models.edge.arrays
    assert not np.array_equal(newest["conv1.weight"], edge.source["conv1.weight"])
    assert not np.array_equal(newest["bn1.running_mean"], edge.source["bn1.running_mean"])


def test_a_version_is_what_its_delta_leads_to(foundation: Bundle, edge: Bundle) -> None:
    """The published state is the rounded one, and the delta keeps to its limit."""
    for step in steps(Distiller(foundation, edge, method(), start=None), 6):
        if step.delta is not None:
            led_to = apply_delta(edge.source, step.delta)
            assert digest_arrays(led_to) == digest_arrays(step.models.edge.arrays)
            assert len(msgspec.msgpack.encode(step.delta)) <= 2048


def test_same_images_same_bits_also_through_the_ledger(foundation: Bundle, edge: Bundle) -> None:
    """A restart between two steps changes nothing of what follows."""
    learner = Distiller(foundation, edge, method(), start=None)
    before = steps(learner, 3)[-1].models
    restarted = Distiller(foundation, edge, method(), start=None)

    onward = steps(learner, 3, before)
    again = steps(restarted, 3, decode_models(encode_models(before), restarted.source))

    assert [bits(step.models) for step in onward] == [bits(step.models) for step in again]


@pytest.mark.parametrize(("taken", "publishes"), [(2, False), (3, True)])
def test_nothing_is_learned_from_the_judges(
    foundation: Bundle, edge: Bundle, taken: int, publishes: bool
) -> None:
    """The uploads of a step that publishes leave no bit in what it learned; others' do."""
    learner = Distiller(foundation, edge, method(), start=None)
    models = steps(learner, taken)[-1].models
    replay = stream(taken * BATCH)

    one, other = (
        learner.step(models, uploads, replay, step_generator(0, "cam-1", taken))
        for uploads in (tiny.make_images(BATCH, seed=taken), tiny.make_images(BATCH, seed=99))
    )

    assert (one.verdict is not None) == (other.verdict is not None) == publishes
    learned = [digest_arrays(step.models.edge.learning) for step in (one, other)]
    assert (learned[0] == learned[1]) == publishes
    assert digest_arrays(models.edge.learning) not in learned


def test_only_normalisation_moves_if_it_is_told_so(foundation: Bundle, edge: Bundle) -> None:
    """With `moves = "normalisation"` convolutions and head stay the source's."""
    learner = Distiller(foundation, edge, method(moves="normalisation"), start=None)
    versions = [step for step in steps(learner, 8) if step.delta is not None]

    newest = versions[-1].models.edge.arrays
    for name in ("conv1.weight", "conv2.weight", "head.weight", "head.bias"):
        assert np.array_equal(newest[name], edge.source[name])
    assert not np.array_equal(newest["bn2.weight"], edge.source["bn2.weight"])


def test_the_gate_withholds_a_harmful_candidate(foundation: Bundle, edge: Bundle) -> None:
    """A learning rate far too high: after a good version, nothing worse is let out."""
    good = steps(Distiller(foundation, edge, method(), start=None), 8)[-1].models
    wild = Distiller(foundation, edge, method(learning_rate=3.0, average=0.0), start=None)

    asked = [step for step in steps(wild, 4, good) if step.verdict is not None]

    assert asked
    for step in asked:
        assert step.verdict is not None
        assert not step.verdict.passes
        assert step.delta is None
        assert step.models.edge.arrays is not None
        assert digest_arrays(step.models.edge.arrays) == digest_arrays(good.edge.arrays)


def test_targets_that_do_not_fit_the_buffer_are_asked_for_again(
    foundation: Bundle, edge: Bundle
) -> None:
    """Expired samples stand in the buffer without targets: the teacher answers all anew."""
    learner = Distiller(foundation, edge, method(), start=None)
    before = steps(learner, 3)[-1].models
    short = replace(before, targets=before.targets[5:])

    step = steps(learner, 1, short)[0]

    assert step.models.targets.shape == (4 * BATCH, len(tiny.CLASSES))
    assert np.allclose(step.models.targets.sum(axis=1), 1, atol=1e-5)


def test_it_begins_with_the_start_state(foundation: Bundle, edge: Bundle, tmp_path: Path) -> None:
    """The start is coded like any version, near the other bundle's weights."""
    other = bundle(tmp_path / "hardened", seed=1)
    learner = Distiller(foundation, edge, method(), start=other)

    assert learner.start is not None
    models, delta = learner.start
    assert digest_arrays(apply_delta(edge.source, delta)) == digest_arrays(models.edge.arrays)
    for name in edge.source:
        distance = np.abs(models.edge.arrays[name] - other.source[name]).max()
        apart = np.abs(edge.source[name] - other.source[name]).max()
        assert distance <= apart / 2
