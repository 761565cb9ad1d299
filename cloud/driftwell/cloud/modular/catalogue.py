"""The cloud's modules, each with a version of its own.

Nobody waits for rounds: a module gets a new version when somebody's update is folded into it,
and a device fetches what it lacks. A version is what a difference from the one before, in few
bits, leads to: who applies the difference holds the same bits. So who is some versions behind
needs the differences between; who holds nothing, or is too far behind, the whole module. Here is
kept what that takes; handing it out is `serving`'s.

An update says which version it began with, so late and repeated ones are normal: within what is
kept they count less, beyond it they are refused.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.cloud.modular.aggregation import Arrays, Contribution, fold_in
from driftwell.messages.blob import MAX_STEPS, encode_difference, in_order
from driftwell.messages.delta import Delta, apply_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import ArrayError, DeltaError, RefusalCode

Address = tuple[int, int]
"""Number of the module layer, and of the module in it."""

MAX_RETIRED: Final = 65_536
"""Pieces that are no longer kept and still known by their names, so that an update of one is
told from one of nowhere; the oldest are forgotten first."""
LEAST_SIZE: Final = 0.01
"""Of a value, on average: a module of zeros may move, and not without bound."""


class FoldSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How modules change, and how much of the past is kept."""

    bits: Annotated[float, msgspec.Meta(ge=1, le=16)] = 4.0
    """Of a value in a difference, at most."""
    keep: Annotated[int, msgspec.Meta(ge=1, le=MAX_STEPS)] = 8
    """Versions of a module, the newest included; each takes the module's memory."""
    inertia: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    """What the cloud's copy weighs (`aggregation.fold_in`)."""
    discount: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Of each version that an update is behind."""
    by_importance: bool = True
    """False: all updates count alike."""
    largest_change: Annotated[float, msgspec.Meta(gt=0)] = 4.0
    """Of an update: the norm of its difference over the module's. Training moves a module by a
    fraction of this; what goes further is broken, or meant to break."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a device learned of one module."""

    base: int
    """The version it began with."""
    delta: Delta
    """From that."""
    importance: float
    """Of the module on the device's data, 0 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class ModuleVersion:
    """One version of one module."""

    number: int
    """From 0."""
    piece: str
    """The digest of its arrays."""
    arrays: dict[str, NDArray[np.float32]]
    """In ascending order of their names, as differences count them."""
    delta: Delta | None = None
    """From the version before; None: that is not kept."""

    @property
    def size_bytes(self) -> int:
        """What the difference takes as MessagePack."""
        return 0 if self.delta is None else len(msgspec.msgpack.encode(self.delta))


class Catalogue:
    """All modules of a model, version by version; not thread safe."""

    def __init__(self, modules: Mapping[Address, Arrays], settings: FoldSettings) -> None:
        """Begin with version 0 of every module; a bypass has no arrays and never changes."""
        self._settings = settings
        self._kept: dict[Address, deque[ModuleVersion]] = {}
        self._address: dict[str, Address] = {}
        """Of every piece that is kept."""
        self._retired: dict[str, None] = {}
        for address, arrays in modules.items():
            own = _copied(arrays)
            self.restore(address, [ModuleVersion(0, digest_arrays(own), own)])

    def restore(self, address: Address, versions: Sequence[ModuleVersion]) -> None:
        """Take up a module where it was: its newest versions, the oldest first, one at least.

        What was kept of it here, or is given and is too much, is `retire`d, the bundle's too.
        """
        before = [*self._kept.get(address, ()), *versions]
        self._kept[address] = deque(versions[-self._settings.keep :])
        for version in before:
            if version not in self._kept[address]:
                self.retire(version.piece)
        self._address |= {version.piece: address for version in self._kept[address]}

    def retire(self, piece: str) -> None:
        """Know a piece by its name only: what says it is of it is told that it is too old."""
        self._address.pop(piece, None)
        self._retired[piece] = None
        if len(self._retired) > MAX_RETIRED:
            del self._retired[next(iter(self._retired))]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every module."""
        return tuple(self._kept)

    def version(self, address: Address) -> int:
        """The number of a module's newest version, from 0."""
        return self.newest(address).number

    def newest(self, address: Address) -> ModuleVersion:
        """A module's newest version."""
        return self._kept[address][-1]

    def arrays(self, address: Address) -> dict[str, NDArray[np.float32]]:
        """A copy of a module's newest version."""
        return _copied(self.newest(address).arrays)

    def find(self, piece: str) -> tuple[Address, ModuleVersion]:
        """The module and version with these arrays.

        Raises:
            DeltaError: `older-version` if it is no longer kept, `wrong-source` if it is not known.
        """
        address = self._address.get(piece)
        if address is not None:
            return address, next(one for one in self._kept[address] if one.piece == piece)
        if piece in self._retired:
            raise DeltaError(
                f"piece {piece[:12]} is of a version that is no longer kept",
                RefusalCode.OLDER_VERSION,
            )
        raise DeltaError(f"no piece {piece[:12]} is known", RefusalCode.WRONG_SOURCE)

    def kept(self, address: Address, piece: str) -> ModuleVersion | None:
        """The version of a module with these arrays; None: it has none, or not any more."""
        versions = self._kept.get(address, ())
        return next((one for one in versions if one.piece == piece), None)

    def steps(self, address: Address, held: int, wanted: int) -> tuple[Delta, ...] | None:
        """The differences from a version to a later one, both kept; None: send the whole."""
        between = [one for one in self._kept[address] if held < one.number <= wanted]
        deltas = tuple(one.delta for one in between if one.delta is not None)
        if not between or len(deltas) < len(between):
            return None
        whole = sum(array.nbytes for array in between[-1].arrays.values())
        return deltas if sum(one.size_bytes for one in between) < whole else None

    def fetch_bytes(self, address: Address, held: int | None) -> int:
        """What a device fetches to hold the newest version.

        Args:
            address: Of a module.
            held: The version it holds; None: none.
        """
        kept = self._kept[address]
        whole = sum(array.nbytes for array in kept[-1].arrays.values())
        newest = kept[-1].number
        if held is None or not self._is_kept(address, held) or held > newest:
            return whole
        behind = newest - held
        return min(whole, sum(kept[-1 - back].size_bytes for back in range(behind)))

    def update(
        self, address: Address, base: int, learned: Arrays, importance: float
    ) -> tuple[Update, int]:
        """What a device that began with `base` sends of what it learned, and its bytes.

        Raises:
            DeltaError: if that version is not kept here; a device keeps its own.
            ArrayError: if the arrays are not the module's, or not finite.
        """
        before = self._base(address, base)
        delta = encode_difference(before, learned, bits=self._settings.bits)
        return Update(base, delta, importance), len(msgspec.msgpack.encode(delta))

    def read(self, address: Address, update: Update) -> Contribution:
        """An update as a contribution to its module.

        Raises:
            DeltaError: `older-version` if it began with one that is no longer kept,
                `wrong-source` if there is no such module or no such version yet.
            ArrayError: if it does not fit the module, leads to what is not finite, to a variance
                below 0, or further away than `largest_change`.
        """
        before = self._base(address, update.base)
        if not 0 <= update.importance <= 1:
            raise DeltaError(f"importance {update.importance}", RefusalCode.MALFORMED)
        after = apply_delta(before, update.delta)
        _require_variances(after)
        change = _distance(before, after)
        if change > self._settings.largest_change:
            raise ArrayError(f"the update moves the module by {change:.3g} of its norm")
        age = self.version(address) - update.base
        return Contribution(after, update.importance, age)

    def fold(self, address: Address, contributions: Sequence[Contribution]) -> bool:
        """Fold contributions into a module; whether it has a new version."""
        version = self.folded(address, contributions)
        if version is not None:
            self.add(address, version)
        return version is not None

    def folded(
        self, address: Address, contributions: Sequence[Contribution]
    ) -> ModuleVersion | None:
        """The version that contributions would lead to; None: to none. Nothing changes here."""
        newest = self.newest(address)
        settings = self._settings
        wanted = fold_in(
            newest.arrays,
            contributions,
            inertia=settings.inertia,
            discount=settings.discount,
            by_importance=settings.by_importance,
        )
        return self.moved(newest, wanted)

    def moved(self, before: ModuleVersion, wanted: Arrays) -> ModuleVersion | None:
        """The version after one, nearest to the arrays that are wanted; None: it would be the same.

        Nothing changes here.

        Raises:
            ArrayError: if the arrays are not the module's, or not finite.
        """
        arrays = before.arrays
        if not arrays or all(np.array_equal(wanted[name], arrays[name]) for name in arrays):
            return None
        delta = encode_difference(arrays, wanted, bits=self._settings.bits)
        after = apply_delta(arrays, delta)
        piece = digest_arrays(after)
        if piece in self._address:  # rounding left nothing of it
            return None
        return ModuleVersion(before.number + 1, piece, after, delta)

    def add(self, address: Address, version: ModuleVersion) -> None:
        """Give a module its next version; the oldest one that is kept may have to go."""
        kept = self._kept[address]
        if len(kept) == self._settings.keep:
            self.retire(kept.popleft().piece)
        kept.append(version)
        self._address[version.piece] = address

    def _base(self, address: Address, version: int) -> Arrays:
        if address not in self._kept or not 0 <= version <= self.version(address):
            raise DeltaError(f"no version {version} of module {address}", RefusalCode.WRONG_SOURCE)
        behind = self.version(address) - version
        if not self._is_kept(address, version):
            raise DeltaError(
                f"version {version} of module {address} is {behind} "
                "versions old, and no longer kept",
                RefusalCode.OLDER_VERSION,
            )
        return self._kept[address][-1 - behind].arrays

    def _is_kept(self, address: Address, version: int) -> bool:
        return self.version(address) - version < len(self._kept[address])


def _distance(before: Arrays, after: Arrays) -> float:
    """The norm of the difference over that of `before`, at least LEAST_SIZE a value."""
    moved = sum(float(np.square(after[name] - array).sum()) for name, array in before.items())
    norm = sum(float(np.square(array).sum()) for array in before.values())
    least = LEAST_SIZE**2 * sum(array.size for array in before.values())
    return float((moved / max(norm, least)) ** 0.5) if before else 0.0


def _require_variances(arrays: Arrays) -> None:
    for name, array in arrays.items():
        if name.endswith("running_var") and (array < 0).any():
            raise ArrayError(f"array {name!r} is a variance, and below 0 somewhere")


def _copied(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    return {name: np.array(array) for name, array in in_order(arrays).items()}
