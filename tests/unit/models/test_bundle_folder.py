"""A bundle takes the place of a bundle, at once, and of nothing else."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests import tiny, tiny_modular

from driftwell.messages.errors import BundleError
from driftwell.models.bundle import Bundle, create_bundle, open_bundle
from driftwell.models.bundle_folder import whole_or_not_at_all
from driftwell.models.manifest import MANIFEST
from driftwell.models.modular.bundle import open_modular
from driftwell.models.modular.folder import MODULES
from driftwell.models.modular.writing import cut_bundle, write_device_copy


class Killed(BaseException):
    """What stands for a kill."""


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path, "edge")


def write(out: Path, seed: int = 1) -> Bundle:
    return create_bundle(
        out, model="tests.tiny:edge", weights=tiny.weights_of(tiny.edge(), seed),
        shape=tiny.SHAPE, classes=tiny.CLASSES, preprocessing=tiny.PREPROCESSING,
    )  # fmt: skip


def web_app(out: Path) -> None:
    """Browsers read a file of this name, too."""
    out.mkdir()
    (out / MANIFEST).write_text('{"name": "app", "start_url": "index.html"}')
    (out / "thesis").write_text("years")


def bundle_with_notes(out: Path) -> None:
    write(out)
    (out / "thesis").write_text("years")


def notes_among_modules(out: Path) -> None:
    cut_bundle(tiny_modular.make_blocks(out.parent), out, tiny_modular.STRUCTURE)
    (out / MODULES / "thesis").write_text("years")


def folder_within(out: Path) -> None:
    write(out)
    (out / MODULES / "own").mkdir(parents=True)
    (out / MODULES / "own" / "thesis").write_text("years")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (web_app, "not a bundle"),
        (bundle_with_notes, r"thesis is no file of a bundle.* take it out"),
        (notes_among_modules, r"modules/thesis is no file of a bundle"),
        (folder_within, r"modules/own is no file of a bundle"),
    ],
)
def test_nothing_else_is_lost(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    """A folder that is no bundle, or holds anything beside one, stays as it is."""
    out = tmp_path / "out"
    make(out)
    before = sorted(out.rglob("*"))

    with pytest.raises(BundleError, match=message):
        write(out)

    assert sorted(out.rglob("*")) == before


def test_bundles_of_either_kind_replace_each_other(tmp_path: Path, bundle: Bundle) -> None:
    """In one piece, in modules, a device's copy; a file manager's notes do not matter."""
    whole = tiny_modular.make_modular(tmp_path)
    shutil.copytree(bundle.path, tmp_path / "out")

    assert open_modular(write_device_copy(whole, tmp_path / "out").path).digest == whole.digest
    (tmp_path / "out" / MODULES / ".DS_Store").write_bytes(b"")
    assert write(tmp_path / "out").digest == open_bundle(tmp_path / "out").digest
    assert {path.name for path in tmp_path.iterdir()} == {"blocks", "edge", "modular", "out"}


def test_what_is_no_folder_is_named(tmp_path: Path, bundle: Bundle) -> None:
    """A file, a link to a bundle, a link to nothing, and what lies in a file."""
    (tmp_path / "file").write_text("years")
    (tmp_path / "link").symlink_to(bundle.path)
    (tmp_path / "loose").symlink_to(tmp_path / "nothing")

    for out, message in (
        ("file", "is a file"),
        ("link", "is a link"),
        ("loose", "is a link"),
        ("file/out", "no bundle can be written"),
    ):
        with pytest.raises(BundleError, match=message):
            write(tmp_path / out)
    assert (tmp_path / "file").read_text() == "years"
    assert open_bundle(bundle.path).digest == bundle.digest


def test_the_folder_one_is_in_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no name of its own: it is not written to, and no bundle is found in it."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BundleError, match="no bundle can be written"):
        write(Path())
    with pytest.raises(BundleError, match="no bundle at"):
        open_bundle(Path())
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_open_takes_no_place(tmp_path: Path) -> None:
    """In modules a name grows past what a manifest allows; the bundle before is still there."""
    base = create_bundle(
        tmp_path / "base", model="tests.tiny_modular:long_names",
        weights={n: t.numpy() for n, t in tiny_modular.long_names().state_dict().items()},
        shape=tiny.SHAPE, classes=tiny.CLASSES, preprocessing=tiny.PREPROCESSING,
    )  # fmt: skip
    good = write(tmp_path / "out")

    with pytest.raises(BundleError, match="not a bundle manifest"):
        cut_bundle(base, good.path, tiny_modular.STRUCTURE)

    assert open_bundle(good.path).digest == good.digest
    assert {path.name for path in tmp_path.iterdir()} == {"base", "out"}


def test_a_device_copy_that_does_not_open_takes_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with it: the copy before still answers."""
    whole = tiny_modular.make_modular(tmp_path)
    copy = write_device_copy(whole, tmp_path / "copy")
    monkeypatch.setattr(
        "driftwell.models.modular.writing.write_pieces", lambda folder, *_: folder.exists()
    )

    with pytest.raises(BundleError, match="does not exist"):
        write_device_copy(whole, copy.path)

    assert open_modular(copy.path).digest == copy.digest


@pytest.mark.parametrize("step", range(4))
def test_a_kill_leaves_a_whole_bundle(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The old one or the new one, wherever it hits; the next writer clears up."""
    steps = iter(range(100))

    def until_killed(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            if next(steps) >= step:
                raise Killed
            return function(*given, **named)

        return counted

    with monkeypatch.context() as killing:
        for owner, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
            killing.setattr(owner, name, until_killed(getattr(owner, name)))
        with pytest.raises(Killed):
            write(bundle.path)
    whole = [path for path in (bundle.path, tmp_path / ".edge.replaced") if path.exists()]
    assert whole
    assert open_bundle(whole[0]).path == whole[0]
    if whole[0] != bundle.path:
        with pytest.raises(BundleError, match=r"rename .*\.edge\.replaced to edge"):
            open_bundle(bundle.path)
    for path in tmp_path.glob(".*.partial"):
        os.utime(path, (0, 0))

    assert write(bundle.path, seed=2).digest == open_bundle(bundle.path).digest
    assert list(tmp_path.iterdir()) == [bundle.path]


@pytest.mark.parametrize("is_made", [False, True])
def test_the_bundle_before_comes_back_if_the_next_one_fails(bundle: Bundle, is_made: bool) -> None:
    """After a kill between the two moves it lies beside; an empty folder is no bundle."""
    bundle.path.rename(bundle.path.with_name(".edge.replaced"))
    if is_made:
        bundle.path.mkdir()

    with pytest.raises(Killed), whole_or_not_at_all(bundle.path):
        raise Killed

    assert open_bundle(bundle.path).digest == bundle.digest


def test_only_what_killed_writers_left_is_cleared(tmp_path: Path, bundle: Bundle) -> None:
    """Not what a writer works on now, nor what is another bundle's or no bundle's."""
    kept = (".edge-2-abcdefgh.partial", ".edge-settings", ".edges-abcdefgh.partial")
    for name in (*kept, ".edge-abcdefgh.partial"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".edge-ijklmnop.partial").mkdir()

    write(bundle.path)

    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"edge", ".edge-ijklmnop.partial", *kept}


def test_it_is_on_the_disk_before_the_old_one_goes(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file and each folder: a power cut leaves no empty files under the right names."""
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))

    write(bundle.path)

    assert {
        path.stat().st_ino for path in (tmp_path, bundle.path, *bundle.path.iterdir())
    } <= synced
