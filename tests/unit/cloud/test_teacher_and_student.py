"""The two networks of our own learner, each by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests import tiny
from tests.unit.cloud.test_distiller import bundle

from driftwell.cloud.settings import TeacherSettings
from driftwell.cloud.student import Student
from driftwell.cloud.teacher import AT_ONCE, Teacher
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError
from driftwell.models.augmentation import augment
from driftwell.models.bundle import Bundle

IMAGES = tiny.make_images(48)
NONE = tiny.make_images(0)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle(tmp_path_factory.mktemp("bundle") / "edge", seed=0)


def make_student(
    edge: Bundle, *, average: float = 0.9, moves: str = "all", bfloat16: bool = False
) -> Student:
    return Student(edge, learning_rate=0.01, average=average, moves=moves, bfloat16=bfloat16)


def learn(student: Student, steps: int) -> None:
    targets = torch.from_numpy(np.eye(4, dtype=np.float32)[np.arange(len(IMAGES)) % 4])
    for _ in range(steps):
        student.learn(student.prepare(IMAGES), targets)


def test_the_teacher_says_the_same_of_an_image_and_its_mirror_image(foundation: Bundle) -> None:
    """If it mirrors; each row is a probability."""
    mirrored = np.ascontiguousarray(IMAGES[:, :, ::-1])
    both = Teacher(foundation, TeacherSettings(prior_images=16, mirrors=True))
    one = Teacher(foundation, TeacherSettings(prior_images=16, mirrors=False))

    answers = both.targets(IMAGES, NONE)

    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(answers, both.targets(mirrored, NONE), atol=1e-5)
    assert not np.allclose(one.targets(IMAGES, NONE), one.targets(mirrored, NONE), atol=1e-3)


def test_the_teacher_answers_in_the_statistics_of_what_it_sees(foundation: Bundle) -> None:
    """Context changes the answers and is not answered; what was asked before does not."""
    teacher = Teacher(foundation, TeacherSettings(prior_images=16, mirrors=True))
    bright = np.full((32, *tiny.SHAPE), 255, np.uint8)

    alone = teacher.targets(IMAGES, NONE)
    beside = teacher.targets(IMAGES, bright)

    assert alone.shape == beside.shape == (len(IMAGES), 4)
    assert not np.allclose(alone, beside, atol=1e-3)
    assert np.array_equal(teacher.targets(IMAGES, NONE), alone)


def test_the_teacher_takes_any_number_of_images(foundation: Bundle) -> None:
    """None, and more than it looks at in one pass."""
    teacher = Teacher(foundation, TeacherSettings(prior_images=16, mirrors=False))

    assert teacher.targets(NONE, NONE).shape == (0, 4)
    assert teacher.targets(tiny.make_images(AT_ONCE + 3), NONE).shape == (AT_ONCE + 3, 4)


def test_in_bfloat16_the_teacher_says_nearly_the_same(foundation: Bundle) -> None:
    """In float32, and not by chance: the bits are others."""
    exact, quick = (
        Teacher(foundation, TeacherSettings(prior_images=16, mirrors=True, bfloat16=bfloat16))
        for bfloat16 in (False, True)
    )

    answers, nearly = exact.targets(IMAGES, NONE), quick.targets(IMAGES, NONE)

    assert nearly.dtype == np.float32
    assert np.allclose(answers, nearly, atol=0.05)
    assert not np.array_equal(answers, nearly)


def test_in_bfloat16_the_student_keeps_weights_in_float32(edge: Bundle) -> None:
    """It goes nearly the same way; the small steps of Adam are not rounded away."""
    exact, quick = make_student(edge), make_student(edge, bfloat16=True)
    for student in (exact, quick):
        student.begin(edge.source, {})
        learn(student, 5)

    weights, nearly = (student.end()["weights/conv1.weight"] for student in (exact, quick))
    assert nearly.dtype == np.float32
    moved = np.abs(weights - edge.source["conv1.weight"]).mean()
    assert 0 < np.abs(nearly - weights).mean() < 0.5 * moved


def test_the_student_goes_on_where_it_was(edge: Bundle) -> None:
    """Taken out and put into another one, the next steps give the same bits."""
    one, other = make_student(edge), make_student(edge)
    one.begin(edge.source, {})
    learn(one, 5)
    other.begin(edge.source, one.end())
    learn(one, 5)
    learn(other, 5)

    assert digest_arrays(one.end()) == digest_arrays(other.end())


def test_a_cohort_leaves_no_trace_in_the_next_one(edge: Bundle) -> None:
    """What another cohort learned in the same module is gone when a fresh one is put in."""
    used, fresh = make_student(edge), make_student(edge)
    used.begin(edge.source, {})
    learn(used, 5)
    for student in (used, fresh):
        student.begin(edge.source, {})
        learn(student, 3)

    assert digest_arrays(used.end()) == digest_arrays(fresh.end())


def test_the_average_lags_behind_the_weights(edge: Bundle) -> None:
    """With 0 it is the weights themselves; with 0.9 it lies between source and weights."""
    exact, lagging = make_student(edge, average=0.0), make_student(edge, average=0.9)
    for student in (exact, lagging):
        student.begin(edge.source, {})
        learn(student, 5)

    weights = exact.end()["weights/conv1.weight"]
    assert np.array_equal(exact.end()["average/conv1.weight"], weights)
    moved = np.abs(weights - edge.source["conv1.weight"]).mean()
    averaged = lagging.averaged(edge.source, IMAGES, 16)["conv1.weight"]
    assert 0 < np.abs(averaged - edge.source["conv1.weight"]).mean() < moved


def test_statistics_are_those_of_the_averaged_weights(edge: Bundle) -> None:
    """Of the source's weights on one chunk: what the first layer's features really are."""
    student = make_student(edge)
    student.begin(edge.source, {})
    measured = student.averaged(edge.source, IMAGES, len(IMAGES))

    module = edge.module().eval()
    with torch.inference_mode():
        features = module.get_submodule("conv1")(student.prepare(IMAGES))
    assert np.allclose(measured["bn1.running_mean"], features.mean((0, 2, 3)), atol=1e-5)
    assert np.allclose(
        measured["bn1.running_var"], features.var((0, 2, 3), correction=0), atol=1e-5
    )
    assert np.array_equal(measured["conv1.weight"], edge.source["conv1.weight"])


def test_a_student_with_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    """A network without normalisation layers that may move only these."""
    bare = bundle(tmp_path / "bare", seed=0, model="no_norm")

    with pytest.raises(BundleError, match="none of its arrays can learn"):
        make_student(bare, moves="normalisation")


def test_views_show_the_same_image() -> None:
    """Mirrored or not, shifted by a few pixels; without both nothing changes."""
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    same = augment(images, np.random.default_rng(0), mirrors=False, shift=0)
    views = augment(images, np.random.default_rng(0), mirrors=True, shift=2)
    again = augment(images, np.random.default_rng(0), mirrors=True, shift=2)

    assert torch.equal(same, images)
    assert views.shape == images.shape
    assert not torch.equal(views, images)
    assert torch.equal(views, again)
    mirrored = augment(images, np.random.default_rng(3), mirrors=True, shift=0)
    for view, image in zip(mirrored, images, strict=True):
        assert torch.equal(view, image) or torch.equal(view, image.flip(2))
