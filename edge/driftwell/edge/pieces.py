"""Pieces on disk, each a file named by its digest: what a device fetched once it need not again.

A file is written whole or not at all, and verified whenever it is read, so nobody waits for the
disk: what a power failure damages is found out, removed and fetched again. Beyond the limit the
pieces not used for the longest time go first.
"""

import contextlib
import os
import re
import struct
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.submodels import NO_ARRAYS, Part
from driftwell.messages.blob import Arrays, decode_content, encode_whole
from driftwell.messages.errors import WireError

_NAME: Final = re.compile(r"[0-9a-f]{64}")
_HEADER: Final = struct.Struct(">4s32sHHQ")
"""Magic, digest of the bundle, layer, module, version; behind it the content of the piece."""
_MAGIC: Final = b"DWP2"
_UNFINISHED: Final = ".new"


@dataclass(frozen=True, slots=True)
class Held:
    """A piece on the disk."""

    part: Part
    size_bytes: int


class PieceStore:
    """The pieces a device holds beside those of its bundle; thread safe."""

    def __init__(self, folder: Path, limit_bytes: int, *, model: str) -> None:
        """Open the folder, which is made if it is not there; what is no piece in it is removed.

        Pieces of another bundle's modules go, too: there is no use for them.

        Args:
            folder: For pieces alone; it may hold folders, which are let be.
            limit_bytes: Of all files together.
            model: The digest of the bundle.
        """
        self._model = bytes.fromhex(model)
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held: dict[str, Held] = {}
        """The one used last stands last."""
        files = [path for path in folder.iterdir() if path.is_file()]
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
            held = _read_header(path, self._model)
            if held is None:
                path.unlink(missing_ok=True)
            else:
                self._held[path.name] = held

    def __contains__(self, piece: str) -> bool:
        return piece == NO_ARRAYS or piece in self._held

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        with self._lock:
            return sum(held.size_bytes for held in self._held.values())

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is held: which modules in which versions."""
        with self._lock:
            return tuple(held.part for held in self._held.values())

    def put(self, part: Part, arrays: Arrays, *, keep: Collection[str]) -> bool:
        """Keep a piece, and remove others as far as the limit demands.

        Args:
            part: Which module it is; `part.piece` is the digest of `arrays`.
            arrays: float32.
            keep: Pieces that do not give way.

        Returns:
            Whether it is there now; if not, there is no room, or the disk does not take it.
        """
        if part.piece in self:
            self.use([part.piece])
            return True
        content = _HEADER.pack(_MAGIC, self._model, part.layer, part.module, part.version)
        content += encode_whole(arrays)
        with self._lock:
            if not self._make_room(len(content), keep):
                return False
            try:
                self._write(part.piece, content)
            except OSError:
                return False
            self._held[part.piece] = Held(part, len(content))
        return True

    def read(self, piece: str) -> dict[str, NDArray[np.float32]] | None:
        """A piece's arrays, verified; None if it is not there, or was damaged and is gone now."""
        if piece == NO_ARRAYS:
            return {}
        if piece not in self._held:
            return None
        try:
            content = self._path(piece).read_bytes()
            return decode_content(content[_HEADER.size :], piece=piece, base=None)
        except (OSError, WireError):
            self.remove(piece)
            return None

    def use(self, pieces: Iterable[str]) -> None:
        """Note that pieces are in use: they give way last, over a restart, too."""
        with self._lock:
            for piece in pieces:
                held = self._held.pop(piece, None)
                if held is not None:
                    self._held[piece] = held
                    with contextlib.suppress(OSError):
                        os.utime(self._path(piece))

    def remove(self, piece: str) -> None:
        """Forget a piece; one that is not there is no error."""
        with self._lock:
            self._remove(piece)

    def _make_room(self, size_bytes: int, keep: Collection[str]) -> bool:
        room = self._limit_bytes - size_bytes - sum(one.size_bytes for one in self._held.values())
        for piece in [piece for piece in self._held if piece not in keep]:
            if room >= 0:
                break
            room += self._held[piece].size_bytes
            self._remove(piece)
        return room >= 0

    def _remove(self, piece: str) -> None:
        if self._held.pop(piece, None) is not None:
            with contextlib.suppress(OSError):
                self._path(piece).unlink(missing_ok=True)

    def _write(self, piece: str, content: bytes) -> None:
        path = self._path(piece)
        unfinished = path.with_suffix(_UNFINISHED)
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def _path(self, piece: str) -> Path:
        if not is_digest(piece):
            raise ValueError(f"{piece!r} is no digest")
        return self._folder / piece


def is_digest(name: str) -> bool:
    """Whether a name may be a file's here."""
    return _NAME.fullmatch(name) is not None


def _read_header(path: Path, model: bytes) -> Held | None:
    """What a file says it is; None if it is no piece of this model."""
    if not is_digest(path.name):
        return None
    try:
        with path.open("rb") as file:
            magic, owner, layer, module, version = _HEADER.unpack(file.read(_HEADER.size))
            size_bytes = path.stat().st_size
    except (OSError, struct.error):
        return None
    if (magic, owner) != (_MAGIC, model):
        return None
    return Held(Part(layer, module, version, path.name), size_bytes)
