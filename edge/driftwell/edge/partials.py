"""Beginnings of contents on disk, so that a download goes on after a restart where it was.

A file is named by the digest of the content. In front of the bytes it says what they are of. Any
prefix of a content is a beginning of it, so a chunk that was written in part does no harm.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from driftwell.edge.fetching import Beginning, Step
from driftwell.edge.pieces import is_digest
from driftwell.messages.digest import digest_bytes
from driftwell.messages.envelope import Digest

_LENGTH: Final = 2
"""Bytes in front of the header that say how long it is."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
    piece: Digest
    base: Digest | None
    size_bytes: Annotated[int, msgspec.Meta(ge=1)]


_header: Final = msgspec.msgpack.Decoder(_Header)


class Partials:
    """The beginnings a device holds."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, which is made if it is not there."""
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def beginnings(self) -> Iterator[Beginning]:
        """What is there; what is no beginning is removed."""
        try:
            paths = sorted(self._folder.iterdir())
        except OSError:  # somebody removed the folder: then nothing is there
            return
        for path in paths:
            beginning = _read(path)
            if beginning is not None:
                yield beginning
            else:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def grow(self, step: Step) -> bool:
        """Write what a chunk adds; whether the disk took it."""
        beginning = step.beginning
        path = self._path(beginning.content)
        try:
            if step.is_new:
                header = msgspec.msgpack.encode(
                    _Header(beginning.piece, beginning.base, beginning.size_bytes)
                )
                path.write_bytes(len(header).to_bytes(_LENGTH, "big") + header + step.data)
            else:
                with path.open("ab") as file:
                    file.write(step.data)
        except OSError:
            return False
        return True

    def read(self, beginning: Beginning) -> bytes | None:
        """A whole content, verified; None if it is not what its digest says."""
        try:
            raw = self._path(beginning.content).read_bytes()
        except OSError:
            return None
        content = raw[_LENGTH + int.from_bytes(raw[:_LENGTH], "big") :]
        return content if digest_bytes(content) == beginning.content else None

    def drop(self, content: str) -> None:
        """Forget a beginning; one that is not there is no error."""
        with contextlib.suppress(OSError):
            self._path(content).unlink(missing_ok=True)

    def keep_only(self, pieces: Iterable[str]) -> None:
        """Forget the beginnings of all other pieces."""
        wanted = set(pieces)
        for beginning in list(self.beginnings()):
            if beginning.piece not in wanted:
                self.drop(beginning.content)

    def _path(self, content: str) -> Path:
        if not is_digest(content):
            raise ValueError(f"{content!r} is no digest")
        return self._folder / content


def _read(path: Path) -> Beginning | None:
    if not is_digest(path.name):
        return None
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH), "big")
            header = _header.decode(file.read(length))
        held_bytes = path.stat().st_size - _LENGTH - length
    except (OSError, msgspec.MsgspecError):
        return None
    if held_bytes > header.size_bytes:
        return None
    return Beginning(header.piece, header.base, path.name, header.size_bytes, held_bytes)
