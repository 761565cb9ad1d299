"""A teacher in the offline stage: its answers, of what the modules see, count in the loss."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests import tiny, tiny_modular
from torch import Tensor
from torch.nn import functional

from driftwell.cloud.modular.checkpoint import CHECKPOINT, Run, read_checkpoint, write_checkpoint
from driftwell.cloud.modular.offline import data_digest, run_offline
from driftwell.cloud.modular.offline_settings import OfflineSettings
from driftwell.cloud.modular.teaching import Teacher, open_teacher
from driftwell.cloud.modular.training import begin_training, train_offline
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError, SettingsError
from driftwell.models.augmentation import augment
from driftwell.models.bundle import Bundle, create_bundle
from driftwell.models.modular.folder import whole_weights
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.network import Preparation
from driftwell.models.preprocessing import Preprocessing

COUNT = 90
IMAGES = tiny.make_images(COUNT)
LABELS = np.arange(COUNT) % len(tiny.CLASSES)
OTHER_LABELS = LABELS[::-1].copy()
ELSEWHERE = Preprocessing(mean=(0.3,), std=(0.7,))
VIEWS = OfflineSettings(joint_epochs=2, ability_epochs=1, batch=32, mirrors=True, shift=2)


class StoppedError(Exception):
    """Somebody has stopped it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    """A modular one; what was cut lies beside it, as `blocks`."""
    return tiny_modular.make_modular(folder)


def make_teacher(folder: Path, *, preprocessing: Preprocessing = tiny.PREPROCESSING,
                 shape: tuple[int, int, int] = tiny.SHAPE,
                 classes: tuple[str, ...] = tiny.CLASSES) -> Bundle:  # fmt: skip
    """A bundle of a network that is sure of its answers."""
    return create_bundle(
        folder, model="tests.tiny:foundation", weights=tiny.weights_of(tiny.foundation(), 5),
        shape=shape, classes=classes, preprocessing=preprocessing,
    )  # fmt: skip


def train(
    bundle: Bundle,
    folder: Path,
    settings: OfflineSettings,
    *,
    labels: NDArray[np.int64] = LABELS,
    teacher: Teacher | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> ModularNetwork:
    digest = None if teacher is None else teacher.digest
    run = Run(
        bundle=bundle.digest, data=data_digest(IMAGES, labels), teacher=digest, seed=3,
        settings=settings,
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    module = None if teacher is None else teacher.module
    return run_offline(
        bundle, IMAGES, labels, run, folder, teacher=module, progress=progress
    ).network


def bits(network: ModularNetwork) -> str:
    return digest_arrays(whole_weights(network))


@pytest.mark.parametrize("views", [{}, {"mirrors": True, "shift": 2}])
def test_with_the_teacher_alone_labels_do_not_matter(
    tmp_path: Path, bundle: Bundle, views: dict[str, object]
) -> None:
    """A share of 1 is the whole loss of the joint stage: with other labels it is the same bits."""
    teacher = open_teacher(make_teacher(tmp_path / "teacher").path, bundle)
    made: dict[float, list[str]] = {}
    for share in (1.0, 0.9):
        settings = msgspec.convert(
            {"joint_epochs": 2, "ability_epochs": 0, "batch": 32, "distilled": share, **views},
            OfflineSettings,
        )
        made[share] = [
            bits(train(bundle, tmp_path / f"{share}-{n}", settings, labels=given, teacher=teacher))
            for n, given in enumerate((LABELS, OTHER_LABELS))
        ]

    assert made[1.0][0] == made[1.0][1]
    assert made[0.9][0] != made[0.9][1]
    assert made[0.9][0] != made[1.0][0]


def test_the_modules_learn_what_the_teacher_says(tmp_path: Path, bundle: Bundle) -> None:
    """Far better than its mean answer would be, image by image; by labels alone far worse."""
    teacher = open_teacher(make_teacher(tmp_path / "teacher").path, bundle)
    settings = OfflineSettings(
        joint_epochs=30, ability_epochs=0, batch=32, learning_rate=0.01, distilled=1.0
    )
    inputs = Preparation(tiny.PREPROCESSING)(IMAGES)
    taught = train(bundle, tmp_path / "taught", settings, teacher=teacher)
    alone = train(bundle, tmp_path / "alone", settings)
    with torch.inference_mode():
        wanted = torch.softmax(teacher.module(inputs), dim=1)
        given = [torch.log_softmax(one(inputs), dim=1) for one in (taught, alone)]
    given.append(wanted.mean(dim=0).log().expand_as(wanted))
    lost = [float(functional.kl_div(one, wanted, reduction="batchmean")) for one in given]

    assert lost[0] < lost[2] / 2
    assert lost[1] > lost[2] * 2


@pytest.mark.parametrize("preprocessing", [tiny.PREPROCESSING, ELSEWHERE])
def test_the_teacher_sees_the_same_view_in_its_own_preprocessing(
    tmp_path: Path, bundle: Bundle, preprocessing: Preprocessing
) -> None:
    """What it says of a prepared view is what its bundle says of the pixels of that view."""
    made = make_teacher(tmp_path / "teacher", preprocessing=preprocessing)
    teacher = open_teacher(made.path, bundle)
    pixels = torch.from_numpy(IMAGES).float().permute(0, 3, 1, 2)
    prepared = Preparation(tiny.PREPROCESSING)(IMAGES)
    seen, view = (
        augment(one, np.random.default_rng(1), mirrors=True, shift=2) for one in (pixels, prepared)
    )
    with torch.inference_mode():
        answers = teacher.module(view).numpy()
    shown = seen.permute(0, 2, 3, 1).to(torch.uint8).numpy()

    assert not np.array_equal(shown, IMAGES)
    np.testing.assert_allclose(answers, made.network().logits(shown), rtol=1e-3, atol=1e-4)


def test_the_teacher_is_asked_about_what_the_modules_see(tmp_path: Path, bundle: Bundle) -> None:
    """In every step the very view that the selector and the modules are given."""
    teacher = open_teacher(make_teacher(tmp_path / "teacher").path, bundle).module
    network = bundle.module()
    assert isinstance(network, ModularNetwork)
    told: list[Tensor] = []
    seen: list[Tensor] = []
    teacher.register_forward_pre_hook(lambda _, given: told.append(given[0]))
    network.selector.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    settings = msgspec.structs.replace(VIEWS, ability_epochs=0, distilled=0.7)
    inputs = Preparation(tiny.PREPROCESSING)(IMAGES)
    train_offline(network, inputs, LABELS, settings, seed=3, teacher=teacher)
    known = {image.numpy().tobytes() for image in inputs}

    assert len(told) == 2 * 3
    assert all(torch.equal(one, other) for one, other in zip(told, seen, strict=True))
    assert not all(image.numpy().tobytes() in known for image in torch.cat(told))


def test_another_preprocessing_of_the_same_function_teaches_the_same(
    tmp_path: Path, bundle: Bundle
) -> None:
    """Inputs half as large and weights twice as large: to the bit, the factors are powers of 2."""
    base = make_teacher(tmp_path / "base")
    half = Preprocessing(mean=(0.5,), std=(0.5,))
    weights = {**base.weights, "conv1.weight": np.asarray(base.weights["conv1.weight"]) * 2}
    same = create_bundle(
        tmp_path / "same", model="tests.tiny:foundation", weights=weights, shape=tiny.SHAPE,
        classes=tiny.CLASSES, preprocessing=half,
    )  # fmt: skip
    settings = msgspec.structs.replace(VIEWS, distilled=0.7)
    taught, again = (
        train(bundle, tmp_path / name, settings, teacher=open_teacher(one.path, bundle))
        for name, one in (("a", base), ("b", same))
    )

    assert base.digest != same.digest
    assert bits(taught) == bits(again)


@pytest.mark.parametrize("stops", [[40], [100, 190]])
def test_taught_it_comes_to_the_same_bits(tmp_path: Path, bundle: Bundle, stops: list[int]) -> None:
    """Stopped in either stage, with views, and with a teacher that is opened anew."""
    path = make_teacher(tmp_path / "teacher", preprocessing=ELSEWHERE).path
    settings = msgspec.structs.replace(VIEWS, distilled=0.7)
    whole = train(bundle, tmp_path / "a", settings, teacher=open_teacher(path, bundle))
    for images in stops:
        torch.rand(3)  # what other work draws is nothing to it

        def tell(seen: int, of: int, images: int = images) -> None:
            assert seen <= of
            if seen > images:
                raise StoppedError

        with pytest.raises(StoppedError):
            train(bundle, tmp_path / "b", settings, teacher=open_teacher(path, bundle),
                  progress=tell)  # fmt: skip
    gone_on = train(bundle, tmp_path / "b", settings, teacher=open_teacher(path, bundle))

    assert bits(gone_on) == bits(whole)
    files = [(tmp_path / name / CHECKPOINT).read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_a_teacher_learns_nothing(tmp_path: Path, bundle: Bundle) -> None:
    """Not a weight, not a running statistic; and nothing of it is in the network that is made."""
    teacher = open_teacher(make_teacher(tmp_path / "teacher").path, bundle)
    before = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    network = train(
        bundle, tmp_path / "run", msgspec.structs.replace(VIEWS, distilled=0.7), teacher=teacher
    )

    assert not teacher.module.training
    assert not any(one.requires_grad for one in teacher.module.parameters())
    after = teacher.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    module = bundle.module()
    assert network.state_dict().keys() == module.state_dict().keys()


@pytest.mark.parametrize(("written", "wanted"), [(None, "1" * 64), ("1" * 64, None),
                                                 ("1" * 64, "2" * 64)])  # fmt: skip
def test_a_checkpoint_of_another_teacher_is_refused(
    tmp_path: Path, bundle: Bundle, written: str | None, wanted: str | None
) -> None:
    """Also one of none."""
    runs = [
        Run(bundle=bundle.digest, data="0" * 64, seed=3, settings=VIEWS, teacher=teacher)
        for teacher in (written, wanted)
    ]
    network = bundle.module()
    assert isinstance(network, ModularNetwork)
    write_checkpoint(tmp_path, runs[0], begin_training(network, VIEWS, seed=3), [])

    assert read_checkpoint(tmp_path, runs[0], network) is not None
    with pytest.raises(SettingsError, match="another run: teacher differ"):
        read_checkpoint(tmp_path, runs[1], network)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": (8, 9, 1)}, r"takes images of 8 x 9 x 1, .*modular of 8 x 8 x 1: give"),
        ({"classes": ("circle", "square", "cross", "star")}, "number 1 is 'square', not 'cross'"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(
    tmp_path: Path, bundle: Bundle, changed: dict[str, tuple[str, ...]], message: str
) -> None:
    """The error says in what it differs, and which would be best."""
    path = make_teacher(tmp_path / "teacher", **changed).path  # type: ignore[arg-type]

    with pytest.raises(SettingsError, match=f"{message}.*best the network that was cut"):
        open_teacher(path, bundle)


def test_a_teacher_of_fewer_classes_is_refused(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where all that it has are the same."""
    monkeypatch.setattr(tiny, "CLASSES", tiny.CLASSES[:3])  # how many answers the network has
    path = make_teacher(tmp_path / "teacher", classes=tiny.CLASSES).path

    with pytest.raises(SettingsError, match=r"other classes than .*: 3, not 4; give"):
        open_teacher(path, bundle)


def test_a_teacher_that_does_not_open_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    """Nothing there; weights that were altered; a modular bundle."""
    path = make_teacher(tmp_path / "teacher").path
    make_teacher(tmp_path / "other", preprocessing=ELSEWHERE)
    (path / "selftest.safetensors").write_bytes(b"something else")

    with pytest.raises(BundleError, match="no bundle at"):
        open_teacher(tmp_path / "nothing", bundle)
    with pytest.raises(BundleError, match="selftest"):
        open_teacher(path, bundle)
    with pytest.raises(SettingsError, match="made of modules, and a teacher is in one piece: give"):
        open_teacher(bundle.path, bundle)
