"""The cloud's modules, each with a version of its own.

Nobody waits for rounds: a module gets a new version when somebody's update is folded into it,
and a device fetches what it lacks. A version is what a difference from the one before, in few
bits, leads to: who applies the difference holds the same bits. So who is some versions behind
needs the differences between; who holds nothing, or is too far behind, the whole module. Here is
counted what that takes; handing it out is somebody else's.

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
from driftwell.messages.delta import Delta, apply_delta, encode_delta
from driftwell.messages.errors import DeltaError, RefusalCode

Address = tuple[int, int]
"""Number of the module layer, and of the module in it."""

LEAST_BYTES: Final = 512
"""Of a difference: its frame and steps need some, however small the module."""


class FoldSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How modules change, and how much of the past is kept."""

    bits: Annotated[float, msgspec.Meta(ge=1, le=16)] = 4.0
    """Of a value in a difference, at most."""
    keep: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    """Versions of a module, the newest included; each takes the module's memory."""
    inertia: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    """What the cloud's copy weighs (`aggregation.fold_in`)."""
    discount: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Of each version that an update is behind."""
    by_importance: bool = True
    """False: all updates count alike."""


@dataclass(frozen=True, slots=True)
class Update:
    """What a device learned of one module."""

    base: int
    """The version it began with."""
    delta: Delta
    """From that."""
    importance: float
    """Of the module on the device's data, 0 to 1."""


@dataclass(frozen=True, slots=True)
class _Version:
    arrays: dict[str, NDArray[np.float32]]
    size_bytes: int
    """Of the difference from the version before it."""


class Catalogue:
    """All modules of a model, version by version; not thread safe."""

    def __init__(self, modules: Mapping[Address, Arrays], settings: FoldSettings) -> None:
        """Begin with version 0 of every module; a bypass has no arrays and never changes."""
        self._settings = settings
        self._kept: dict[Address, deque[_Version]] = {
            address: deque([_Version(_copied(arrays), 0)], maxlen=settings.keep)
            for address, arrays in modules.items()
        }
        self._newest = dict.fromkeys(modules, 0)

    def version(self, address: Address) -> int:
        """The number of a module's newest version, from 0."""
        return self._newest[address]

    def arrays(self, address: Address) -> dict[str, NDArray[np.float32]]:
        """A copy of a module's newest version."""
        return _copied(self._kept[address][-1].arrays)

    def fetch_bytes(self, address: Address, held: int | None) -> int:
        """What a device fetches to hold the newest version.

        Args:
            address: Of a module.
            held: The version it holds; None: none.
        """
        kept = self._kept[address]
        whole = sum(array.nbytes for array in kept[-1].arrays.values())
        if held is None or not self._is_kept(address, held) or held > self._newest[address]:
            return whole
        behind = self._newest[address] - held
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
        delta = self._encode(before, learned)
        return Update(base, delta, importance), len(msgspec.msgpack.encode(delta))

    def read(self, address: Address, update: Update) -> Contribution:
        """An update as a contribution to its module.

        Raises:
            DeltaError: `older-version` if it began with one that is no longer kept,
                `wrong-source` if there is no such module or no such version yet.
            ArrayError: if it does not fit the module, or leads to what is not finite.
        """
        before = self._base(address, update.base)
        if not 0 <= update.importance <= 1:
            raise DeltaError(f"importance {update.importance}", RefusalCode.MALFORMED)
        age = self._newest[address] - update.base
        return Contribution(apply_delta(before, update.delta), update.importance, age)

    def fold(self, address: Address, contributions: Sequence[Contribution]) -> bool:
        """Fold contributions into a module; whether it has a new version."""
        before = self._kept[address][-1].arrays
        settings = self._settings
        wanted = fold_in(
            before,
            contributions,
            inertia=settings.inertia,
            discount=settings.discount,
            by_importance=settings.by_importance,
        )
        if not before or all(np.array_equal(wanted[name], before[name]) for name in before):
            return False
        delta = self._encode(before, wanted)
        size_bytes = len(msgspec.msgpack.encode(delta))
        self._kept[address].append(_Version(apply_delta(before, delta), size_bytes))
        self._newest[address] += 1
        return True

    def _encode(self, before: Arrays, after: Arrays) -> Delta:
        values = sum(array.size for array in before.values())
        limit = max(LEAST_BYTES, int(values * self._settings.bits / 8))
        return encode_delta(before, after, limit_bytes=limit)

    def _base(self, address: Address, version: int) -> Arrays:
        if address not in self._kept or version > self._newest[address] or version < 0:
            raise DeltaError(f"no version {version} of module {address}", RefusalCode.WRONG_SOURCE)
        if not self._is_kept(address, version):
            raise DeltaError(
                f"version {version} of module {address} is {self._newest[address] - version} "
                "versions old, and no longer kept",
                RefusalCode.OLDER_VERSION,
            )
        return self._kept[address][version - self._newest[address] - 1].arrays

    def _is_kept(self, address: Address, version: int) -> bool:
        return self._newest[address] - version < len(self._kept[address])


def _copied(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    return {name: np.array(array) for name, array in arrays.items()}
