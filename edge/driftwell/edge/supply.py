"""The pieces a device has, and how it comes by those it lacks.

What its bundle holds it never fetches. What comes is kept as it grows, so that a restart costs
nothing, and becomes a piece once it is whole and leads to what was asked for.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from driftwell.edge.fetching import Beginning, Fetching, Lack
from driftwell.edge.partials import Partials
from driftwell.edge.pieces import PieceStore
from driftwell.edge.settings import PieceSettings
from driftwell.edge.submodels import NO_ARRAYS, Owner, Part
from driftwell.messages.blob import Arrays, Blob, decode_content
from driftwell.messages.errors import ArrayError, BundleError, DeltaError, RefusalCode
from driftwell.models.modular.bundle import ModularBundle
from driftwell.models.modular.folder import held_pieces
from driftwell.models.modular.module_layer import first_layer, second_layer


@dataclass(frozen=True, slots=True)
class Whole:
    """A content that is there from beginning to end, and not looked into yet."""

    part: Part
    beginning: Beginning


class Supply:
    """Pieces of one bundle. `unpack` and `arrays` may run in another thread than the rest."""

    def __init__(
        self, bundle: ModularBundle, owner: Owner, folder: Path, settings: PieceSettings
    ) -> None:
        """Open the store of pieces in `folder`."""
        self._bundle = bundle
        self._owner = owner
        self.own = held_pieces(bundle.path, bundle.spec)
        """The bundle's."""
        self.store = PieceStore(folder, settings.limit_bytes, model=owner.model)
        self._partials = Partials(folder / "partial")
        self.fetching = Fetching(settings.fetch_retry_s)
        self._whole: deque[Whole] = deque()
        self._keep: frozenset[str] = frozenset()
        self.received_bytes = 0
        """Of contents, repeats not counted."""

    def __contains__(self, piece: str) -> bool:
        return piece in self.own or piece in self.store

    def has_all(self, parts: Iterable[Part]) -> bool:
        """Whether nothing of a sub-model is missing."""
        return all(part.piece in self for part in parts)

    def arrays(self, layer: int, module: int, piece: str) -> Arrays | None:
        """A piece of a module, verified; None: it is not there, or was damaged and is gone now.

        Raises:
            BundleError: if a file of the bundle was altered.
        """
        if piece in self.own and self._bundle.spec.modules[layer][module] == piece:
            return self._bundle.module_arrays(layer, module)
        return self.store.read(piece)

    def begin(self, submodel: int, parts: Sequence[Part], *, keep: Iterable[str]) -> None:
        """Lack what a sub-model needs and is not here; ask for nothing else any more.

        Args:
            submodel: Its version.
            parts: What it is made of.
            keep: Pieces that do not give way to new ones.
        """
        self._keep = frozenset(keep)
        lacking = {part.piece: part for part in parts if part.piece not in self}
        self._partials.keep_only(lacking)
        begun: dict[str, Beginning] = {}
        for beginning in self._partials.beginnings():
            other = begun.get(beginning.piece)
            if other is None or other.held_bytes < beginning.held_bytes:
                begun[beginning.piece] = beginning
        newest = self._newest_pieces()
        self.fetching.begin(
            submodel,
            [
                Lack(
                    part,
                    self._owner.limit_bytes(part.layer, part.module),
                    newest.get((part.layer, part.module)),
                    begun.get(piece),
                )
                for piece, part in lacking.items()
            ],
        )
        self._whole = deque(
            Whole(lacking[piece], one) for piece, one in begun.items() if one.is_whole
        )

    def take(self, blob: Blob, now_s: float) -> bool:
        """Take a chunk; whether a content is whole now.

        Raises:
            ArrayError: as `Fetching.take`; what is there of the piece is forgotten.
        """
        former = self.fetching.beginning(blob.piece)
        if self.fetching.part(blob.piece) is None and blob.piece in self:
            return False  # of a question from before a restart
        try:
            step = self.fetching.take(blob, now_s)
        except ArrayError:
            self._forget(blob.piece, former)
            raise
        if step is None:
            return False
        if step.is_new and former is not None:
            self._partials.drop(former.content)
        if not self._partials.grow(step):  # a full disk: the next question begins anew
            self._forget(blob.piece, step.beginning)
            return False
        self.received_bytes += len(step.data)
        part = self.fetching.part(blob.piece)
        if not step.beginning.is_whole or part is None:
            return False
        self._whole.append(Whole(part, step.beginning))
        return True

    @property
    def has_whole(self) -> bool:
        """Whether a content waits to be looked into."""
        return bool(self._whole)

    def next_whole(self) -> Whole | None:
        """A content to `unpack`, and then to `settle`."""
        return self._whole.popleft() if self._whole else None

    def unpack(self, whole: Whole) -> bool:
        """Look into a content and keep its piece; whether disk and limit took it.

        Raises:
            WireError: if it is not what it should be.
        """
        beginning, part = whole.beginning, whole.part
        if part.piece in self:
            return True
        content = self._partials.read(beginning)
        if content is None:
            raise DeltaError("the content is not what its digest says", RefusalCode.WRONG_RESULT)
        base: Arrays | None = None
        if beginning.base is not None:
            try:
                base = self.arrays(part.layer, part.module, beginning.base)
            except BundleError as error:
                raise ArrayError(f"a difference from a piece that is damaged: {error}") from error
            if base is None:
                raise ArrayError("a difference from a piece that is not here")
        arrays = decode_content(content, piece=part.piece, base=base)
        return self.store.put(part, arrays, keep=self._keep)

    def settle(self, whole: Whole, *, is_kept: bool, is_bad: bool = False) -> None:
        """Note what became of a content; a bad one is asked for again, and not as a difference."""
        self._partials.drop(whole.beginning.content)
        part = whole.part
        if is_kept:
            self.fetching.finish(part.piece)
        else:
            have = None if is_bad else self._newest(part.layer, part.module)
            self.fetching.restart(part.piece, have=have)

    def held(self) -> tuple[tuple[int, ...], ...]:
        """For each layer and module the newest version that is here, plus 1; 0: none."""
        table = [
            [int(piece == NO_ARRAYS or piece in self.own) for piece in layer]
            for layer in self._bundle.spec.modules
        ]
        for part in self.store.parts:
            if part.layer < len(table) and part.module < len(table[part.layer]):
                row = table[part.layer]
                row[part.module] = max(row[part.module], part.version + 1)
        return tuple(map(tuple, table))

    def _newest(self, layer: int, module: int) -> str | None:
        """The newest piece of a module that is here."""
        return self._newest_pieces().get((layer, module))

    def _newest_pieces(self) -> dict[tuple[int, int], str]:
        """For each module, by layer and number, the newest piece that is here, if one is."""
        newest = {
            (layer, module): piece
            for layer, pieces in enumerate(self._bundle.spec.modules)
            for module, piece in enumerate(pieces)
            if piece in self.own and piece != NO_ARRAYS
        }
        for part in sorted(self.store.parts, key=lambda part: part.version):
            newest[part.layer, part.module] = part.piece
        return newest

    def _forget(self, piece: str, beginning: Beginning | None) -> None:
        if beginning is not None:
            self._partials.drop(beginning.content)
        part = self.fetching.part(piece)
        if part is not None:
            self.fetching.restart(piece, have=self._newest(part.layer, part.module))


def module_values(bundle: ModularBundle) -> tuple[tuple[int, ...], ...]:
    """For each layer the numbers of each module's arrays; 0: a bypass."""
    sub_model = bundle.sub_model(bundle.spec.fallback)
    sizes = []
    for whole, place in zip(bundle.places, sub_model.places, strict=True):
        wide: list[Tensor] = [*first_layer(sub_model.trunk, place).parameters()]
        wide.append(second_layer(sub_model.trunk, place).layer.weight)
        if place.norm is not None:
            norm = sub_model.trunk.get_submodule(place.norm).state_dict()
            wide += [tensor for tensor in norm.values() if tensor.dim()]
        channels = max(1, sum(place.widths))  # a bypass alone has one, as a stand-in
        each = sum(tensor.numel() for tensor in wide) // channels
        sizes.append(tuple(each * width for width in whole.widths))
    return tuple(sizes)
