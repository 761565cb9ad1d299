"""What a device learns of its modules: from the newest labelled images, and in few bits."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from tests import modular_pieces, tiny
from tests.unit.edge.test_device import SETTINGS, make_device

from driftwell.edge.assembly import open_model
from driftwell.edge.learning import Learned, Learner
from driftwell.edge.lessons import Lessons
from driftwell.edge.settings import LearningSettings
from driftwell.edge.spool import Spool
from driftwell.messages.blob import in_order
from driftwell.messages.codec import encode
from driftwell.messages.delta import apply_delta
from driftwell.messages.errors import ArrayError
from driftwell.messages.images import Pixels
from driftwell.models.modular.bundle import ModularBundle

LABELS = np.arange(64, dtype=np.int64) % 4
IMAGES = tiny.make_images(64) // 8 + (60 * LABELS[:, None, None, None]).astype(np.uint8)
CHOSEN = ((0, 1, 5), (2, 3))
LEARNING = LearningSettings(enabled=True, epochs=5, rate=0.01)


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[Learner]:
    with open_learner(tmp_path) as opened:
        yield opened


@contextmanager
def open_learner(folder: Path) -> Iterator[Learner]:
    """Of a device that has the whole bundle, and runs some of its modules."""
    bundles = modular_pieces.make_bundles(folder / "bundles")
    settings = msgspec.structs.replace(SETTINGS, learning=LEARNING)
    folder.joinpath("state").mkdir()
    with closing(Spool(folder / "state", "cam-1")) as spool:
        device = make_device(open_model(bundles.whole.path), spool, settings)
        modules, learner = device.modules, device.learner
        assert modules is not None
        assert learner is not None
        order = modular_pieces.make_submodel(modular_pieces.make_manifest(bundles.cloud, 1, CHOSEN))
        modules.take_submodel(order, encode(order))
        modules.switch(1, modules.build(1))
        yield learner


def loss_of(bundle: ModularBundle, learned: list[Learned]) -> float:
    """Mean cross entropy of the sub-model once it has what was learned."""

    def arrays(layer: int, module: int) -> dict[str, NDArray[np.float32]]:
        before = in_order(bundle.module_arrays(layer, module) or {})
        for one in learned:
            if (one.part.layer, one.part.module) == (layer, module):
                return apply_delta(before, one.delta)
        return before

    logits = bundle.network(CHOSEN, arrays).logits(IMAGES).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[np.arange(64), LABELS] - np.log(np.exp(logits).sum(axis=1))
    return float(-chosen.mean())


def test_what_is_told_makes_the_modules_better(learner: Learner) -> None:
    """The cloud's copy answers the device's images better with it, without the device's head."""
    bundle = learner.modules.model.modular

    learned = learner.learn(IMAGES, LABELS)

    assert [address(one) for one in learned] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert loss_of(bundle, learned) < loss_of(bundle, []) - 0.05
    assert all(0 <= one.importance <= 1 and one.samples == 64 for one in learned)
    for one in learned:
        values = sum(a.size for a in (bundle.module_arrays(*address(one)) or {}).values())
        assert len(msgspec.msgpack.encode(one.delta)) <= max(512, values // 2)


def address(one: Learned) -> tuple[int, int]:
    return one.part.layer, one.part.module


def test_the_same_images_teach_the_same(tmp_path: Path) -> None:
    """A training depends on what was seen, and on how many there were before it."""
    with open_learner(tmp_path / "a") as first, open_learner(tmp_path / "b") as second:
        told = first.learn(IMAGES, LABELS)

        assert told == second.learn(IMAGES, LABELS)
        assert told != first.learn(IMAGES, LABELS)


def test_one_image_teaches_nothing(learner: Learner) -> None:
    """BatchNorm needs two."""
    assert learner.learn(IMAGES[:1], LABELS[:1]) == []


def test_a_training_that_led_nowhere_leaves_no_trace(learner: Learner) -> None:
    """Nothing is told of it, and the next one begins with a head that can learn."""
    effort = learner._effort
    learner._effort = replace(effort, rate=1e30)
    with pytest.raises(ArrayError, match="NaN or infinity"):
        learner.learn(IMAGES, LABELS)
    learner._effort = effort

    assert learner.learn(IMAGES, LABELS)


def labelled(*labels: int) -> tuple[Pixels, NDArray[np.int64]]:
    return np.array(labels, np.uint8)[:, None, None, None], np.array(labels, np.int64)


def test_the_newest_images_are_learned_from() -> None:
    """When enough new ones have come, and no more than the window holds."""
    lessons = Lessons(LearningSettings(every=4, window=5), classes=9)
    due = []
    for labels in ((1, 2, 3), (4, 5)):
        lessons.add(*labelled(*labels))
        due.append(lessons.is_due)

    first = lessons.take()
    lessons.add(*labelled(6, 7, 8))
    second = lessons.take()

    assert due == [False, True]
    np.testing.assert_array_equal(first[1], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(second[1], [4, 5, 6, 7, 8])
    np.testing.assert_array_equal(second[0][:, 0, 0, 0], second[1])


def test_a_label_that_is_no_class_teaches_nothing() -> None:
    """Its image is left out."""
    lessons = Lessons(LearningSettings(every=2, window=5), classes=4)
    lessons.add(*labelled(4, 7))
    lessons.add(np.zeros((3, 1, 1, 1), np.uint8), np.array([-1, 3, 0]))

    assert lessons.is_due
    np.testing.assert_array_equal(lessons.take()[1], [3, 0])


def keeping(learner: Learner) -> Learner:
    learner._keeps = True
    return learner


def test_what_pays_is_gone_on_with(learner: Learner) -> None:
    """The device's own modules and head answer, from the next batch on; the pieces stay."""
    node = learner.modules._node
    before = node.infer(IMAGES).logits
    learned = keeping(learner).learn(IMAGES, LABELS)
    assert learner.kept is not None
    parts, network = learner.kept
    assert learner.modules.switch_own(parts, network)
    after = node.infer(IMAGES)

    assert not np.array_equal(after.logits, before)
    assert (after.label == LABELS).mean() > (before.argmax(axis=1) == LABELS).mean()
    assert {one.part for one in learned} <= set(learner.modules.parts)


def test_what_does_not_pay_is_not(learner: Learner) -> None:
    """Labels that say nothing of the images."""
    noise = np.random.default_rng(0).permutation(LABELS)
    for _ in range(3):
        assert keeping(learner).learn(IMAGES, noise)

    assert learner.kept is None


def test_without_being_told_it_goes_on_with_what_runs(learner: Learner) -> None:
    assert learner.learn(IMAGES, LABELS)
    assert learner.kept is None


def test_what_was_learned_of_another_sub_model_is_let_go(learner: Learner) -> None:
    """It was changed during the training."""
    keeping(learner).learn(IMAGES, LABELS)
    assert learner.kept is not None
    parts, network = learner.kept

    assert not learner.modules.switch_own(parts[:-1], network)
    assert learner.modules._counters["trainings_kept"] == 0
