"""Pure. int8 differences: a step for each array, a symbol for each value, one zstd frame.

A step is `scale * rms(differences of the array)`, so one number decides how fine all arrays
are, and small differences round to nothing and cost next to nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import zstandard
from numpy.typing import NDArray

from driftwell.messages.errors import ArrayError, RefusalCode
from driftwell.messages.frames import unpack_frame

REACH: Final = 127
"""The largest symbol; -128 is not used, so that both signs reach equally far."""
FINEST: Final = 0.05
"""Of an array's rms: the rounding error is then 1.4 percent of it, less than learning's noise."""
SMALL_SCALE: Final = 0.05
"""The coarsest scale of arrays of at most one dimension: normalisation, a few values each."""
SMALLEST_STEP: Final = float(np.finfo(np.float32).smallest_normal)
"""Steps are normal numbers: some processors take subnormal ones for 0."""

# Symbols hardly repeat, so what counts is how literals are coded: the optimal parser takes a
# tenth to a fifth less than the fast levels. A short search for matches is enough.
_PARAMETERS: Final = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_BTOPT,
    window_log=18, hash_log=13, chain_log=13, search_log=1, min_match=5, target_length=16,
    write_content_size=True,
)  # fmt: skip

Floats = NDArray[np.float32]
Symbols = NDArray[np.int8]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Differences:
    """What leads from a source state to a target: A arrays, all V values end to end."""

    values: Floats
    """(V,): target minus source, finite."""
    sizes: NDArray[np.intp]
    """(A,): how many values each array has."""
    rms: NDArray[np.float64]
    """(A,): the root of the mean square of each array's differences; 0 if it is empty."""
    peak: NDArray[np.float64]
    """(A,): the largest magnitude in each."""
    small: NDArray[np.bool_]
    """(A,): whether the array has at most one dimension."""
    guarded: NDArray[np.intp]
    """(G,): positions in `values` of small arrays whose target is nowhere negative."""
    guarded_source: Floats
    guarded_target: Floats

    @property
    def coarsest(self) -> float:
        """A scale at which every array that is not small rounds to nothing; 0 if none moved."""
        moved = ~self.small & (self.rms > 0)
        return 2.01 * float(np.max(self.peak[moved] / self.rms[moved], initial=0.0))


def measure_differences(
    differences: Sequence[Floats], source: Sequence[Floats], target: Sequence[Floats]
) -> Differences:
    """Measure what `quantise` asks of each array; the differences are flat and finite."""
    squares = [np.square(one, dtype=np.float64) for one in differences]
    small = [one.ndim <= 1 for one in target]
    kept = [
        np.full(after.size, is_small and bool((after >= 0).all()))
        for is_small, after in zip(small, target, strict=True)
    ]
    guarded = np.flatnonzero(_end_to_end(kept, np.bool_))
    return Differences(
        values=_end_to_end(differences, np.float32),
        sizes=np.array([one.size for one in differences], np.intp),
        rms=np.array([np.sqrt(one.mean()) if one.size else 0.0 for one in squares]),
        peak=np.array([np.sqrt(one.max(initial=0.0)) for one in squares]),
        small=np.array(small, np.bool_),
        guarded=guarded,
        guarded_source=_end_to_end([np.ravel(one) for one in source], np.float32)[guarded],
        guarded_target=_end_to_end([np.ravel(one) for one in target], np.float32)[guarded],
    )


def quantise(differences: Differences, scale: float) -> tuple[Floats, Symbols]:
    """Round all differences to whole steps.

    A symbol is `clip(round(difference / step), -127, 127)`. The step is `scale * rms`, for
    small arrays at most `0.05 * rms`, and in any array large enough for 127 steps to reach
    the largest difference.

    Where a small array's target is nowhere negative, a variance say, the result is the one
    of the two neighbouring steps that is nearer to the target in ratio, not in distance. It
    is then never negative, and never 0 where the target is above 0: a variance of 0
    would blow its channel up.

    Returns:
        Steps, float32 (A,), infinite where an array is too far away for its step; and
        symbols, int8 (V,).
    """
    scales = np.where(differences.small, min(scale, SMALL_SCALE), scale)
    exact = np.maximum(scales * differences.rms, differences.peak / REACH)
    with np.errstate(over="ignore"):
        steps = np.maximum(exact, SMALLEST_STEP).astype(np.float32)
        # Rounded up: 127 steps must not fall short of the largest difference by a last bit.
        steps = np.where(steps < exact, np.nextafter(steps, np.float32(np.inf)), steps)
    spread = np.repeat(steps, differences.sizes)
    whole = np.rint(differences.values / spread)
    symbols = np.clip(whole, -REACH, REACH).astype(np.int8)
    _raise_guarded(differences, spread, symbols)
    return steps, symbols


def _raise_guarded(differences: Differences, spread: Floats, symbols: Symbols) -> None:
    chosen, step = symbols[differences.guarded], spread[differences.guarded]
    low = (differences.guarded_source + chosen * step).astype(np.float64)
    target = differences.guarded_target.astype(np.float64)
    # The geometric mean of two neighbours is where both are equally far in ratio.
    is_nearer = (low < target) & (target**2 > low * (low + step)) & (chosen < REACH)
    symbols[differences.guarded[is_nearer]] += 1


def pack_symbols(symbols: Symbols) -> bytes:
    """One zstd frame that tells the size of its content; no symbols are no bytes."""
    if symbols.size == 0:
        return b""
    return zstandard.ZstdCompressor(compression_params=_PARAMETERS).compress(symbols.tobytes())


def unpack_differences(values: bytes, steps: bytes, sizes: Sequence[int]) -> Floats:
    """The differences, float32 (V,), of arrays with these numbers of values, end to end.

    Each is `float32(symbol) * step`, rounded once; one that overflows is infinite.

    Raises:
        ArrayError: if steps or symbols have a wrong length, or a step is not finite or not
            above 0.
    """
    if len(steps) != 4 * len(sizes):
        raise ArrayError(f"delta takes {4 * len(sizes)} bytes of steps, {len(steps)} came")
    each = np.frombuffer(steps, np.dtype("<f4")).astype(np.float32)
    if not np.isfinite(each).all():
        raise ArrayError("a step of the delta is NaN or infinity", RefusalCode.NOT_FINITE)
    if not (each > 0).all():
        raise ArrayError("a step of the delta is not above 0")
    demanded = sum(sizes)
    if demanded == 0:
        if values:
            raise ArrayError(f"delta takes 0 bytes of values, {len(values)} came")
        return np.zeros(0, np.float32)
    content = unpack_frame(values, demanded, what="values of the delta")
    with np.errstate(over="ignore"):
        return np.frombuffer(content, np.int8).astype(np.float32) * np.repeat(each, sizes)


def _end_to_end(arrays: Sequence[NDArray[Scalar]], dtype: type[Scalar]) -> NDArray[Scalar]:
    return np.concatenate([np.zeros(0, dtype), *arrays])
