"""Pure. Cumulative parameter deltas: from a bundle's source state to a version.

A delta never leads from one version to the next, so losing, repeating or reordering
deltas does no harm. Values are rounded to float16 and added to the float32 source; both
ends compute `source + float32(float16(target - source))` and hold the same bits.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.messages.envelope import Count
from driftwell.messages.errors import ArrayError, RefusalCode

MAX_ENTRIES: Final = 65_536

AdaptableState = Mapping[str, NDArray[np.float32]]
"""Named arrays that may change while everything else in the model is frozen."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """Values for some of the adaptable arrays, in the bundle's order."""

    encoding: Literal["float16", "float32"]
    entries: Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_ENTRIES)]
    """Positions in the bundle's list of adaptable arrays, ascending."""
    values: bytes
    """Their differences from the source state, end to end, little-endian."""


def encode_delta(source: AdaptableState, target: AdaptableState) -> Delta:
    """Encode where `target` differs from `source`; both have the same names and shapes.

    float16 unless a difference does not fit its range; then float32.

    Raises:
        ArrayError: if names or shapes differ, or the target is not finite.
    """
    if list(source) != list(target):
        raise ArrayError("source and target do not hold the same arrays in the same order")
    entries: list[int] = []
    differences: list[NDArray[np.float32]] = []
    for position, name in enumerate(source):
        if source[name].shape != target[name].shape:
            raise ArrayError(f"array {name!r} changed its shape")
        difference = np.ravel(target[name] - source[name])
        if not bool(np.isfinite(difference).all()):
            raise ArrayError(f"array {name!r} is not finite", RefusalCode.NOT_FINITE)
        if bool(difference.any()):
            entries.append(position)
            differences.append(difference)
    flat = np.concatenate(differences) if differences else np.zeros(0, np.float32)
    fits = bool((np.abs(flat) <= np.finfo(np.float16).max).all())
    dtype = np.dtype("<f2" if fits else "<f4")
    return Delta(
        encoding="float16" if fits else "float32",
        entries=tuple(entries),
        values=flat.astype(dtype).tobytes(),
    )


def apply_delta(source: AdaptableState, delta: Delta) -> dict[str, NDArray[np.float32]]:
    """Return the state the delta leads to; `source` stays as it is.

    Raises:
        ArrayError: if the delta names arrays the source lacks, has a wrong length or
            holds NaN or infinity. Nothing is half applied.
    """
    names = list(source)
    positions = delta.entries
    if list(positions) != sorted(set(positions)) or (positions and positions[-1] >= len(names)):
        raise ArrayError("delta entries are not ascending positions of adaptable arrays")
    dtype = np.dtype("<f2" if delta.encoding == "float16" else "<f4")
    demanded = sum(source[names[position]].size for position in positions)
    if len(delta.values) != demanded * dtype.itemsize:
        raise ArrayError(
            f"delta takes {demanded * dtype.itemsize} bytes of values, {len(delta.values)} came"
        )
    values = np.frombuffer(delta.values, dtype=dtype).astype(np.float32)
    if not bool(np.isfinite(values).all()):
        raise ArrayError("delta holds NaN or infinity", RefusalCode.NOT_FINITE)
    result = {name: np.array(array, dtype=np.float32) for name, array in source.items()}
    start = 0
    for position in positions:
        array = result[names[position]]
        array += values[start : start + array.size].reshape(array.shape)
        start += array.size
    return result
