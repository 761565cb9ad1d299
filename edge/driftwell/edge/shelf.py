"""Pure. The last few sub-models a device took, and how they are kept over a restart."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from driftwell.edge.submodels import Part
from driftwell.messages.submodel import SubModelManifest

MAX_KEPT: Final = 4
"""Sub-models remembered: those it may go back to by itself."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A sub-model that was taken."""

    manifest: SubModelManifest
    parts: tuple[Part, ...]
    payload: bytes
    """The message it came in, so that its signature can be verified again."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Sub-models by age, the newest last; `put` leaves the shelf it is called on as it was."""

    kept: tuple[Kept, ...] = ()

    def __iter__(self) -> Iterator[Kept]:
        return iter(self.kept)

    @property
    def newest(self) -> Kept | None:
        """The one taken last."""
        return self.kept[-1] if self.kept else None

    @property
    def version(self) -> int:
        """Of the one taken last; 0: none was."""
        return self.newest.manifest.version if self.newest else 0

    def find(self, version: int) -> Kept | None:
        """The one of this version."""
        return next((one for one in self.kept if one.manifest.version == version), None)

    def put(self, new: Kept, *, running: int) -> "Shelf":
        """The shelf with a newer one; the one that runs does not give way."""
        others = list(self.kept)
        while len(others) >= MAX_KEPT:
            gone = next(one for one in others if one.manifest.version != running)
            others.remove(gone)
        return Shelf((*others, new))


def encode_shelf(shelf: Shelf) -> bytes:
    """What is kept over a restart: the messages, by age."""
    return msgspec.msgpack.encode([one.payload for one in shelf])


def decode_shelf(content: bytes | None) -> list[bytes]:
    """The messages that were kept; none if there was nothing, or nothing that can be read."""
    try:
        return msgspec.msgpack.decode(content or b"", type=list[bytes])[-MAX_KEPT:]
    except msgspec.MsgspecError:
        return []
