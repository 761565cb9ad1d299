"""Pure. Cumulative parameter deltas: from a bundle's source state to a version.

A delta never leads from one version to the next, so losing, repeating or reordering
deltas does no harm. Values are rounded to float16 and added to the float32 source; both
ends compute `source + float32(float16(target - source))` and hold the same bits. Under a
limit of bytes they are whole steps instead: `source + float32(symbol) * step`.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.messages.arrays import require_finite
from driftwell.messages.envelope import Count
from driftwell.messages.errors import ArrayError, RefusalCode
from driftwell.messages.quantised import (
    FINEST,
    Differences,
    measure_differences,
    pack_symbols,
    quantise,
    unpack_differences,
)

MAX_ENTRIES: Final = 65_536
FLOAT16_MAX: Final = 65_504.0
TRIES: Final = 12
"""Scales tried at most in the search for the finest that fits, besides the two ends."""
ENOUGH: Final = 0.98
"""The search ends early where so much of the limit is used."""
AIM: Final = 0.99
EDGE: Final = 0.02
"""A try is so far inside the range at least, as a part of it."""

AdaptableState = Mapping[str, NDArray[np.float32]]
"""Named arrays that may change while everything else in the model is frozen."""


class Delta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Values for some of the adaptable arrays, in the bundle's order."""

    encoding: Literal["float16", "float32", "int8"]
    entries: Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_ENTRIES)]
    """Positions in the bundle's list of adaptable arrays, ascending."""
    values: bytes
    """Their differences from the source state, end to end, little-endian; int8: symbols, zstd."""
    steps: bytes = b""
    """int8: the step of each entry, float32, little-endian."""


def encode_delta(
    source: AdaptableState,
    target: AdaptableState,
    *,
    limit_bytes: int | None = None,
    finest: float = FINEST,
) -> Delta:
    """Encode where `target` differs from `source`; both have the same names and shapes.

    Without a limit: float16 unless a difference does not fit its range; then float32.
    Encoding the state that the delta leads to gives a delta that leads to the same bits.

    Within a limit: int8, as fine as fits, and exactly alike for the same input and the same
    release of zstd. Encoding the state it leads to may give other bits.

    Args:
        source: Where the delta leads from, float32 of any shapes.
        target: Where it leads to, or close to.
        limit_bytes: What the delta may take as MessagePack, in bytes; None: no limit.
        finest: The smallest step of int8, as a part of an array's rms difference; above 0.

    Raises:
        ArrayError: if names or shapes differ, a difference is not finite, `finest` is not
            above 0, or not even the coarsest steps fit the limit (code `too-large`).
    """
    if list(source) != list(target):
        raise ArrayError("source and target do not hold the same arrays in the same order")
    differences = [_difference(name, source[name], target[name]) for name in source]
    if limit_bytes is None:
        return _rounded(differences)
    if not finest > 0:
        raise ArrayError(f"the finest step must be above 0, not {finest}")
    measured = measure_differences(differences, list(source.values()), list(target.values()))
    delta = _search(measured, limit_bytes, finest)
    apply_delta(source, delta)  # a sum may be infinite where the target is not
    return delta


def _rounded(differences: Sequence[NDArray[np.float32]]) -> Delta:
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


def _search(differences: Differences, limit_bytes: int, finest: float) -> Delta:
    """The int8 delta of the finest scale that fits, or of one that uses nearly all of the limit."""
    best, size_bytes = _quantised(differences, finest)
    if size_bytes <= limit_bytes:
        return best
    # Each end is a scale's logarithm and how far off its size is. The root of the bytes falls
    # about linearly with the logarithm, so the next try is where a line through both ends is
    # at its aim. An end that stays twice weighs half, so that neither stays for long (the
    # Illinois rule: Dowell and Jarratt, BIT 11, 1971). It takes fewer tries than halving the
    # range, and each costs a compression.
    aim = math.sqrt(AIM * limit_bytes) if limit_bytes > 0 else 0.0
    low = math.log(finest), math.sqrt(size_bytes) - aim
    coarsest = max(finest, differences.coarsest)
    best, size_bytes = _quantised(differences, coarsest)
    if size_bytes > limit_bytes:
        raise ArrayError(
            f"the coarsest delta takes {size_bytes} bytes, over the limit of {limit_bytes} bytes",
            RefusalCode.TOO_LARGE,
        )
    high = math.log(coarsest), math.sqrt(size_bytes) - aim
    was_over: bool | None = None
    for _ in range(TRIES):
        if size_bytes >= ENOUGH * limit_bytes:
            break
        share = min(max(low[1] / (low[1] - high[1]), EDGE), 1 - EDGE)
        middle = low[0] + share * (high[0] - low[0])
        tried, tried_bytes = _quantised(differences, math.exp(middle))
        end = middle, math.sqrt(tried_bytes) - aim
        is_over = tried_bytes > limit_bytes
        weight = 0.5 if is_over == was_over else 1.0
        was_over = is_over
        if is_over:
            low, high = end, (high[0], high[1] * weight)
        else:
            best, size_bytes = tried, tried_bytes
            low, high = (low[0], low[1] * weight), end
    return best


def _quantised(differences: Differences, scale: float) -> tuple[Delta, int]:
    """The delta at one scale, and what it takes as MessagePack, in bytes."""
    steps, symbols = quantise(differences, scale)
    arrays = np.split(symbols, np.cumsum(differences.sizes)[:-1]) if len(steps) else []
    entries = [position for position, array in enumerate(arrays) if array.any()]
    delta = Delta(
        encoding="int8",
        entries=tuple(entries),
        values=pack_symbols(np.concatenate([symbols[:0], *(arrays[at] for at in entries)])),
        steps=steps[entries].astype("<f4").tobytes(),
    )
    return delta, len(msgspec.msgpack.encode(delta))


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
            holds or leads to NaN or infinity, has a step that is not above 0, or its
            frame is not what the entries demand. Nothing is half applied.
    """
    names = list(source)
    positions = delta.entries
    if any(low >= high for low, high in pairwise((-1, *positions, len(names)))):
        raise ArrayError("delta entries are not ascending positions of adaptable arrays")
    values = _unpack_values(delta, [source[names[position]].size for position in positions])
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


def _unpack_values(delta: Delta, sizes: Sequence[int]) -> NDArray[np.float32]:
    if delta.encoding == "int8":
        return unpack_differences(delta.values, delta.steps, sizes)
    if delta.steps:
        raise ArrayError(f"delta of {delta.encoding} takes no steps")
    dtype = np.dtype("<f2" if delta.encoding == "float16" else "<f4")
    demanded = sum(sizes) * dtype.itemsize
    if len(delta.values) != demanded:
        raise ArrayError(f"delta takes {demanded} bytes of values, {len(delta.values)} came")
    return np.frombuffer(delta.values, dtype=dtype).astype(np.float32)
