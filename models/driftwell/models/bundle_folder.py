"""The folder of a bundle: a new one takes the place of the one before, and of nothing else.

A bundle is written into a folder beside it, `.NAME-xxxxxxxx.partial`, and verified there. The one
before is then moved to `.NAME.replaced` and deleted last, so at every moment one of the two is
whole on the disk, whatever is killed.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from driftwell.messages.errors import BundleError
from driftwell.models.manifest import MANIFEST, decode_manifest
from driftwell.models.modular.folder import MODULES, SOURCE, SUFFIX, TRUNK
from driftwell.models.selftest import SELFTEST
from driftwell.models.weights import WEIGHTS

STALE_S: Final = 3600.0
"""After so long without a new file nobody writes into a folder any more: its writer was killed."""

_FILES: Final = frozenset({MANIFEST, WEIGHTS, SELFTEST, TRUNK, SOURCE})
_MODULE: Final = re.compile(rf"[0-9a-f]{{64}}{re.escape(SUFFIX)}")
_NOTES: Final = frozenset({".DS_Store"})
"""What a file manager leaves in any folder one looks into."""


@contextmanager
def whole_or_not_at_all(out: Path) -> Iterator[Path]:
    """A folder to write a bundle into, which becomes `out` in the end if nothing was raised.

    Open the bundle there before it ends: a bundle before it is kept until then.

    Raises:
        BundleError: if `out` exists and is not a bundle or holds anything else, or the disk does
            not take it.
    """
    with _named(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _require_replaceable(out)
        _mend(out)
        staging = Path(tempfile.mkdtemp(".partial", f".{out.name}-", out.parent))
    try:
        with _named(out):
            _clear(out, staging)
        yield staging
        with _named(out):
            _require_replaceable(out)
            _put_in_place(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replaced(out: Path) -> Path:
    """Where the bundle before lies while another takes its place, and after a kill in between."""
    return out.parent / f".{out.name}.replaced"


@contextmanager
def _named(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BundleError(f"no bundle can be written to {out}: {error}") from error


def _require_replaceable(out: Path) -> None:
    """Whether nothing would be lost but a bundle."""
    if out.name in ("", ".."):
        raise BundleError(f"no bundle can be written to {out}: give the folder by its name")
    if out.is_symlink():
        raise BundleError(f"{out} is a link; name the folder itself")
    if not out.exists():
        return
    if not out.is_dir():
        raise BundleError(f"{out} is a file and not a bundle; choose another name")
    inside = list(out.iterdir())
    if not inside:
        return
    if not (out / MANIFEST).is_file():
        raise BundleError(f"{out} exists and is not a bundle; choose another folder")
    try:  # other programs have a file of this name, too
        decode_manifest((out / MANIFEST).read_bytes(), where=MANIFEST)
    except BundleError as error:
        raise BundleError(
            f"{out} exists and is not a bundle ({error}); choose another folder"
        ) from error
    foreign = sorted(path for path in _leaves(inside) if not _is_of_a_bundle(path, out))
    if foreign:
        raise BundleError(
            f"{foreign[0]} is no file of a bundle, and would be lost; take it out, or choose "
            "another folder"
        )


def _leaves(inside: list[Path]) -> Iterator[Path]:
    """What is in a bundle's folder, and in that of its modules."""
    for path in inside:
        if path.name == MODULES and path.is_dir() and not path.is_symlink():
            yield from path.iterdir()
        else:
            yield path


def _is_of_a_bundle(path: Path, out: Path) -> bool:
    if path.is_dir():
        return False
    is_module = path.parent != out and _MODULE.fullmatch(path.name) is not None
    return is_module or path.name in _NOTES or (path.parent == out and path.name in _FILES)


def _mend(out: Path) -> None:
    """Bring back the bundle before, or delete it, whichever a kill kept from being done."""
    before = replaced(out)
    if not before.is_dir():
        return
    if (out / MANIFEST).is_file():
        shutil.rmtree(before)
    else:
        before.rename(out)


def _clear(out: Path, staging: Path) -> None:
    """Delete the folders of writers that were killed; the disk's own clock tells their age."""
    now = staging.stat().st_mtime
    partial = re.compile(rf"\.{re.escape(out.name)}-[a-z0-9_]{{8}}\.partial")
    for path in out.parent.iterdir():
        if partial.fullmatch(path.name):
            with suppress(FileNotFoundError):  # another writer may be done with it just now
                if now - path.stat().st_mtime > STALE_S:
                    shutil.rmtree(path)


def _put_in_place(staging: Path, out: Path) -> None:
    """Move one folder to where another may be; a power cut leaves one of them whole."""
    staging.chmod(0o755)
    for path in [*staging.rglob("*"), staging]:
        _sync(path)
    before = replaced(out)
    if out.exists():
        out.rename(before)
    try:
        staging.rename(out)
    except OSError:
        if before.is_dir():
            before.rename(out)
        raise
    _sync(out.parent)
    shutil.rmtree(before, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
