"""Pure. Cumulative parameter deltas: from a bundle's source state to a version.

A delta never leads from one version to the next, so losing, repeating or reordering
deltas does no harm. Values are rounded to float16 and added to the float32 source; both
ends compute `source + float32(float16(target - source))` and hold the same bits.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.messages.arrays import require_finite
from driftwell.messages.envelope import Count
from driftwell.messages.errors import ArrayError

MAX_ENTRIES: Final = 65_536
FLOAT16_MAX: Final = 65_504.0

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

    float16 unless a difference does not fit its range; then float32. Encoding the state that
    the delta leads to gives a delta that leads to the same bits.

    Raises:
        ArrayError: if names or shapes differ, or a difference is not finite.
    """
    if list(source) != list(target):
        raise ArrayError("source and target do not hold the same arrays in the same order")
    differences = [_difference(name, source[name], target[name]) for name in source]
    fits = all(bool((np.abs(one) <= FLOAT16_MAX).all()) for one in differences)
    dtype = np.dtype("<f2" if fits else "<f4")
    # What rounds to nothing is left out after rounding, and zero is always sent as +0:
    # else a -0.0 in the source would come out one way now and another way when the
    # applied state is encoded again, and digests count that bit.
    rounded = [np.where(one.astype(dtype) == 0, 0, one).astype(dtype) for one in differences]
    entries = tuple(position for position, values in enumerate(rounded) if values.any())
    return Delta(
        encoding="float16" if fits else "float32",
        entries=entries,
        values=b"".join(rounded[position].tobytes() for position in entries),
    )


def _difference(
    name: str, source: NDArray[np.float32], target: NDArray[np.float32]
) -> NDArray[np.float32]:
    if source.shape != target.shape:
        raise ArrayError(f"array {name!r} changed its shape")
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.ravel(target - source)
    require_finite(name, difference)
    return difference


def apply_delta(source: AdaptableState, delta: Delta) -> dict[str, NDArray[np.float32]]:
    """Return the state the delta leads to; `source` stays as it is.

    Raises:
        ArrayError: if the delta names arrays the source lacks, has a wrong length, or
            holds or leads to NaN or infinity. Nothing is half applied.
    """
    names = list(source)
    positions = delta.entries
    if any(low >= high for low, high in pairwise((-1, *positions, len(names)))):
        raise ArrayError("delta entries are not ascending positions of adaptable arrays")
    dtype = np.dtype("<f2" if delta.encoding == "float16" else "<f4")
    demanded = sum(source[names[position]].size for position in positions)
    if len(delta.values) != demanded * dtype.itemsize:
        raise ArrayError(
            f"delta takes {demanded * dtype.itemsize} bytes of values, {len(delta.values)} came"
        )
    values = np.frombuffer(delta.values, dtype=dtype).astype(np.float32)
    require_finite("values of the delta", values)
    result = {name: np.array(array, dtype=np.float32) for name, array in source.items()}
    start = 0
    for position in positions:
        array = result[names[position]]
        with np.errstate(over="ignore"):
            array += values[start : start + array.size].reshape(array.shape)
        require_finite(names[position], array)
        start += array.size
    return result
