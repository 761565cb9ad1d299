"""Pure. Which pieces a device lacks, when it asks for them, and what becomes of a chunk.

Chunks are taken as they continue what is there. One that does not is left aside, one that comes
again does no harm, and what never comes is asked for again after a silence that doubles. A
content is kept as it grows by somebody else (`partials`); here is only how far it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from driftwell.edge.submodels import Part
from driftwell.messages.blob import Blob, Want
from driftwell.messages.errors import ArrayError, RefusalCode

MAX_ASKED: Final = 256
"""Pieces in one question; more than these come with the next one. So it fits a message."""
MAX_FORMER: Final = 4096
"""Pieces asked for before, whose late chunks are no offence."""
LONGEST_RETRY_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Beginning:
    """What is there of a content."""

    piece: str
    base: str | None
    content: str
    """Its digest."""
    size_bytes: int
    """Of the whole content."""
    held_bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.held_bytes >= self.size_bytes


@dataclass(frozen=True, slots=True)
class Lack:
    """A piece that is not there, and what helps to get it."""

    part: Part
    limit_bytes: int
    """A content of more cannot be right."""
    have: str | None = None
    """The newest piece of this module that the device holds."""
    beginning: Beginning | None = None

    def want(self) -> Want:
        """The same as a question."""
        begun = self.beginning
        return Want(
            layer=self.part.layer,
            module=self.part.module,
            piece=self.part.piece,
            have=msgspec.UNSET if self.have is None else self.have,
            content=msgspec.UNSET if begun is None else begun.content,
            offset=0 if begun is None else begun.held_bytes,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What a chunk adds."""

    beginning: Beginning
    """With the chunk."""
    data: bytes
    """What is new of it."""
    is_new: bool
    """Whether a content begins with it, in place of any other of that piece."""


class Fetching:
    """The pieces one sub-model lacks; not thread safe."""

    def __init__(self, retry_s: float) -> None:
        """Lack nothing; ask again after `retry_s` of silence, then twice as long, and so on."""
        self._retry_s = retry_s
        self._lacks: dict[str, Lack] = {}
        self._asked: set[str] = set()
        self._former: dict[str, None] = {}
        self._asked_at_s: float | None = None
        """When it asked last, or last heard something new; None: it is to ask at once."""
        self._silences = 0
        self.submodel = 0
        """The version of the sub-model the pieces are for."""

    def __len__(self) -> int:
        return len(self._lacks)

    @property
    def pieces(self) -> frozenset[str]:
        """What it lacks."""
        return frozenset(self._lacks)

    def part(self, piece: str) -> Part | None:
        """Which module a piece is of, if it lacks it."""
        lack = self._lacks.get(piece)
        return lack.part if lack else None

    def beginning(self, piece: str) -> Beginning | None:
        """What is there of a piece that it lacks."""
        lack = self._lacks.get(piece)
        return lack.beginning if lack else None

    def begin(self, submodel: int, lacks: Iterable[Lack]) -> None:
        """Lack other pieces from now on, for a sub-model of this version; none: it has all."""
        for piece in self._lacks:
            self._note_former(piece)
        self.submodel = submodel
        self._lacks = {lack.part.piece: lack for lack in lacks}
        self._asked.clear()
        self.ask_anew()

    def ask_anew(self) -> None:
        """Ask at once: the broker may have lost the question, or the cloud the answer."""
        self._asked_at_s = None
        self._silences = 0

    def wait_s(self, now_s: float) -> float | None:
        """How long until it is to ask, in seconds; None: there is nothing to ask for."""
        if not self._lacks:
            return None
        if self._asked_at_s is None:
            return 0.0
        patience_s = min(LONGEST_RETRY_S, self._retry_s * 2.0 ** min(self._silences - 1, 16))
        return max(0.0, self._asked_at_s + patience_s - now_s)

    def ask(self, now_s: float) -> tuple[Want, ...]:
        """The question to send now."""
        lacks = list(self._lacks.values())[:MAX_ASKED]
        self._asked = {lack.part.piece for lack in lacks}
        self._asked_at_s = now_s
        self._silences += 1
        return tuple(lack.want() for lack in lacks)

    def take(self, blob: Blob, now_s: float) -> Step | None:
        """What a chunk adds; None: nothing, and that is no offence.

        Raises:
            ArrayError: `too-large` if nobody asked for it or the content is more than the piece
                can need, `bad-array` if it contradicts the chunks before it or itself. Whoever
                gets this forgets the content of `blob.piece`, and calls `restart`.
        """
        lack = self._lacks.get(blob.piece)
        if lack is None:
            if blob.piece in self._former:
                return None
            raise ArrayError(f"piece {blob.piece[:12]} was not asked for", RefusalCode.TOO_LARGE)
        if blob.size_bytes > lack.limit_bytes:
            raise ArrayError(
                f"a content of {blob.size_bytes} bytes came, the piece needs "
                f"{lack.limit_bytes} at most",
                RefusalCode.TOO_LARGE,
            )
        if blob.offset + len(blob.data) > blob.size_bytes:
            raise ArrayError("a chunk reaches beyond the end of its content")
        step = _step(lack, blob)
        if step is not None:
            self._lacks[blob.piece] = replace(lack, beginning=step.beginning)
            self._asked_at_s = now_s
        return step

    def restart(self, piece: str, *, have: str | None = None) -> None:
        """Forget what is there of a piece: it was no good. `have` is what is held of its module.

        Nothing is asked at once: who sends what is no good is not asked for more of it at once.
        """
        lack = self._lacks.get(piece)
        if lack is not None:
            self._lacks[piece] = replace(lack, beginning=None, have=have)

    def finish(self, piece: str) -> None:
        """A piece is there; once all are that were asked for, the others are asked for at once."""
        if self._lacks.pop(piece, None) is None:
            return
        self._note_former(piece)
        self._asked.discard(piece)
        self._silences = min(self._silences, 1)
        if not self._asked:
            self.ask_anew()

    def _note_former(self, piece: str) -> None:
        self._former[piece] = None
        while len(self._former) > MAX_FORMER:
            del self._former[next(iter(self._former))]


def _step(lack: Lack, blob: Blob) -> Step | None:
    begun = lack.beginning
    base = None if isinstance(blob.base, msgspec.UnsetType) else blob.base
    if begun is None or begun.content != blob.content:
        if blob.offset or not blob.data:
            return None
        fresh = Beginning(blob.piece, base, blob.content, blob.size_bytes, len(blob.data))
        return Step(fresh, blob.data, is_new=True)
    if (begun.base, begun.size_bytes) != (base, blob.size_bytes):
        raise ArrayError("chunks of one content do not agree on what it is")
    known = begun.held_bytes - blob.offset
    if known < 0 or known >= len(blob.data):
        return None
    data = blob.data[known:]
    return Step(replace(begun, held_bytes=begun.held_bytes + len(data)), data, is_new=False)
