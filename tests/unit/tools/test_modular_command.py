"""`driftwell modular`, and modular bundles under `driftwell bundle`."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests import tiny, tiny_modular
from typer.testing import CliRunner, Result

from driftwell.cloud.modular.checkpoint import CHECKPOINT
from driftwell.messages.errors import BundleError, SettingsError, SourceError
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.models.modular.bundle import open_modular
from driftwell.models.modular.spec import Structure
from driftwell.models.state_folder import own_folder
from driftwell.tools.cli import app


def run(*words: object) -> Result:
    """A command that must not fail."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def create(folder: Path, *options: object) -> Path:
    """Make a bundle of `tiny_modular.blocks` on the command line."""
    base = tiny_modular.make_blocks(folder)
    save_file({name: np.array(array) for name, array in base.weights.items()}, folder / "w")
    run(
        "bundle", "create", "--model", "tests.tiny_modular:blocks", "--weights", folder / "w",
        "--out", folder / "made", "--input", "8x8x1", "--classes", ",".join(tiny.CLASSES),
        "--mean", "0.5", "--std", "0.25", *options,
    )  # fmt: skip
    return folder / "made"


def train(folder: Path, out: str, *options: object) -> Bundle:
    run(
        "modular", "train", "--bundle", folder / "made", "--data", folder / "data.npz",
        "--out", folder / out, "--joint-epochs", 2, "--ability-epochs", 1, *options,
    )  # fmt: skip
    return open_bundle(folder / out)


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A modular bundle as it is made, and data beside it."""
    tiny.write_stream(tmp_path / "data.npz", 100)
    return create(tmp_path, "--modular", "--modules", 6, "--slices", 4, "--active", 2)


def test_a_bundle_is_cut_as_it_is_made(tmp_path: Path) -> None:
    """As the options say; what they leave out is 16 modules, 8 slices, 4 active, all blocks."""
    made = open_bundle(create(tmp_path, "--modular", "--layers", 1)).manifest.modular

    assert made is not None
    assert made.structure == Structure(modules=16, slices=8, active=4, layers=1)
    assert [pair.first for pair in made.pairs] == ["2.0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--slices", 4), "--slices is for --modular only"),
        (("--modular", "--modules", 4, "--slices", 4), "modules must be more than the 4 slices"),
        (("--modular", "--active", 0), "cannot be cut like that: .*active"),
    ],
)
def test_a_cut_that_cannot_be_is_refused(
    tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    """Before anything is written."""
    with pytest.raises(SettingsError, match=message):
        create(tmp_path, *options)

    assert not (tmp_path / "made").exists()


def test_a_network_without_room_for_modules_is_refused(tmp_path: Path) -> None:
    """More slices than any block has channels."""
    with pytest.raises(BundleError, match="cannot be cut into modules"):
        create(tmp_path, "--modular", "--modules", 40, "--slices", 32)

    assert not (tmp_path / "made").exists()


def test_training_makes_another_bundle_of_the_same_cut(tmp_path: Path, cut: Path) -> None:
    """The same seed gives the same digest; the checkpoint goes when the bundle is there."""
    first, again, other = (
        train(tmp_path, out, "--seed", seed) for out, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    before = open_bundle(cut)

    assert first.digest == again.digest
    assert len({first.digest, other.digest, before.digest}) == 3
    assert first.manifest.modular is not None
    assert before.manifest.modular is not None
    assert first.manifest.modular.pairs == before.manifest.modular.pairs
    assert not (tmp_path / "a.checkpoint" / CHECKPOINT).exists()


def test_two_trainings_do_not_share_a_checkpoint(tmp_path: Path, cut: Path) -> None:
    """The second is refused while the first runs, and wherever else it may write its own."""
    words = ["--bundle", cut, "--data", tmp_path / "data.npz", "--out", tmp_path / "out"]
    with own_folder(tmp_path / "out.checkpoint"), pytest.raises(SettingsError, match="in use"):
        run("modular", "train", *words)

    with own_folder(tmp_path / "out.checkpoint"):
        train(tmp_path, "out", "--checkpoint", tmp_path / "other")
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_taught_by_the_teacher_alone_labels_do_not_matter(tmp_path: Path, cut: Path) -> None:
    """The same digest from other labels; by labels alone, or by 0.7 as it is, another."""
    images, labels = tiny.make_images(100), np.arange(100) % len(tiny.CLASSES)
    np.savez(tmp_path / "other.npz", x=images, y=labels[::-1])
    teacher = ("--teacher", tmp_path / "blocks", "--ability-epochs", 0)
    cases: list[tuple[object, ...]] = [(*teacher, "--distilled", 1), teacher, teacher[2:]]
    digests = [
        train(tmp_path, f"{number}", *options, *more).digest
        for number, options in enumerate(cases)
        for more in ((), ("--data", tmp_path / "other.npz"))
    ]

    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


def test_the_default_share_and_views_are_as_the_options_say(tmp_path: Path, cut: Path) -> None:
    """A teacher has 0.7 of the loss; mirrored and moved images make another bundle."""
    teacher = ("--teacher", tmp_path / "blocks")
    cases: list[tuple[object, ...]] = [
        teacher, (*teacher, "--distilled", 0.7), (*teacher, "--mirrors"), (*teacher, "--shift", 2),
    ]  # fmt: skip
    digests = [train(tmp_path, f"{n}", *options).digest for n, options in enumerate(cases)]

    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_checkpoint_of_another_teacher_is_refused(
    tmp_path: Path, cut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or of none, of another share or other views; with the same words it goes on."""

    def stop(*_: object, **__: object) -> None:
        raise BundleError("the disk is full")

    teacher = ("--teacher", tmp_path / "blocks")
    other = tiny.make_bundle(tmp_path, "foundation").path
    with monkeypatch.context() as patched:
        patched.setattr("driftwell.models.modular.writing.create_modular_bundle", stop)
        with pytest.raises(BundleError, match="the disk is full"):
            train(tmp_path, "out", *teacher)
    wrong: list[tuple[str, tuple[object, ...]]] = [
        ("teacher differ", ("--teacher", other)),
        ("teacher, settings differ", ()),
        ("settings differ", (*teacher, "--distilled", 0.5)),
        ("settings differ", (*teacher, "--mirrors")),
    ]

    for message, options in wrong:
        with pytest.raises(SettingsError, match=f"of another run: {message}"):
            train(tmp_path, "out", *options)
    assert train(tmp_path, "out", *teacher).digest == train(tmp_path, "new", *teacher).digest


def test_what_it_cannot_learn_from_is_refused(tmp_path: Path, cut: Path) -> None:
    """A bundle in one piece, no epochs, no labels, a class without an image, no teacher."""
    images = tiny.make_images(20)
    np.savez(tmp_path / "unlabelled.npz", x=images)
    np.savez(tmp_path / "few.npz", x=images, y=np.arange(20) % 3)
    base = tmp_path / "blocks"
    wrong: list[tuple[type[Exception], str, dict[str, object]]] = [
        (SettingsError, "make a modular one with", {"--bundle": base}),
        (SettingsError, "there is no epoch", {"--joint-epochs": 0, "--ability-epochs": 0}),
        (SourceError, "no labels", {"--data": tmp_path / "unlabelled.npz"}),
        (SettingsError, "the first is 'star'", {"--data": tmp_path / "few.npz"}),
        (BundleError, "no bundle at", {"--bundle": tmp_path / "nothing"}),
        (BundleError, "no bundle at", {"--teacher": tmp_path / "nothing"}),
        (SettingsError, "a teacher is in one piece", {"--teacher": cut}),
        (SettingsError, "--distilled is for --teacher only", {"--distilled": 0.5}),
    ]
    good = {"--bundle": cut, "--data": tmp_path / "data.npz", "--out": tmp_path / "out"}

    for error, message, changed in wrong:
        words = [str(part) for pair in (good | changed).items() for part in pair]
        with pytest.raises(error, match=message):
            CliRunner().invoke(app, ["modular", "train", *words], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_a_device_copy_is_written_and_shown(tmp_path: Path, cut: Path) -> None:
    """The same digest, few bytes; `show` says what is missing, and all of a whole bundle."""
    said = run("modular", "device-copy", "--bundle", cut, "--out", tmp_path / "copy").output
    whole, copy = (run("modular", "show", path).output for path in (cut, tmp_path / "copy"))
    pieces = run("modular", "show", tmp_path / "copy", "--pieces").output.splitlines()
    spec = open_modular(cut).spec

    assert open_bundle(cut).digest[:12] in said
    assert "10 of 10 module files" in whole
    assert "2 of 10 module files" in copy
    assert len(pieces) == 2 + 12
    assert spec.modules[1][3][:12] in pieces[2 + 6 + 3]
    assert pieces[2 + 6 + 3].endswith("missing")
    assert pieces[2 + 6].endswith("fallback")
    assert pieces[-1].endswith("bypass")
    assert "6 in each of 2 layers" in run("bundle", "show", cut).output


def test_sizes_are_those_of_the_files(tmp_path: Path, cut: Path) -> None:
    """What `show` says of a module is what its file holds."""
    lines = run("modular", "show", cut, "--pieces").output.splitlines()
    (file, *_) = (cut / "modules").glob(f"{lines[2].split()[2]}*")
    size = sum(array.nbytes for array in load_file(file).values())

    assert lines[2].split()[4] == f"{size:,}"
