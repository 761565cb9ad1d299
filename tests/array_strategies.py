"""Hypothesis strategies for arrays, images and adaptable states, and for deltas between them."""

from typing import Final

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import NDArray

from driftwell.messages import (
    Delta,
    NamedArray,
    PackedImages,
    encode_delta,
    pack_images,
)
from driftwell.messages.arrays import DTYPES, pack_arrays
from driftwell.messages.delta import FLOAT16_MAX
from driftwell.messages.images import MAX_QUALITY

array_names: Final = st.from_regex(r"[a-z0-9_.]{1,24}", fullmatch=True)
float32s: Final = st.floats(allow_nan=False, allow_infinity=False, width=32)
array_shapes: Final = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def arrays() -> SearchStrategy[NDArray[np.generic]]:
    """Arrays of every dtype that travels, NaN and empty ones among them."""
    return st.sampled_from(sorted(DTYPES)).flatmap(
        lambda dtype: npst.arrays(np.dtype(dtype), array_shapes)
    )


def array_sets() -> SearchStrategy[dict[str, NDArray[np.generic]]]:
    """A few arrays by name."""
    return st.dictionaries(array_names, arrays(), max_size=4)


def named_arrays() -> SearchStrategy[tuple[NamedArray, ...]]:
    """A few arrays in their wire form."""
    return array_sets().map(pack_arrays)


def images(*, max_side: int = 9) -> SearchStrategy[NDArray[np.uint8]]:
    """Images of shape (N, H, W, C); plain ones compress, noisy ones do not."""
    sides = st.integers(1, max_side)
    shapes = st.tuples(st.integers(1, 4), sides, sides, st.integers(1, 4))
    return shapes.flatmap(lambda shape: npst.arrays(np.uint8, shape))


def packed_images() -> SearchStrategy[PackedImages]:
    """Images in their wire form."""
    qualities = st.none() | st.integers(1, MAX_QUALITY)
    return st.builds(lambda pixels, quality: pack_images(pixels, quality=quality),
                     images(), qualities)  # fmt: skip


def float32_arrays(
    shape: tuple[int, ...], elements: SearchStrategy[float] = float32s
) -> SearchStrategy[NDArray[np.float32]]:
    """Finite float32 arrays of one shape."""
    return npst.arrays(np.float32, shape, elements=elements)


@st.composite
def adaptable_states(
    draw: DrawFn, *, elements: SearchStrategy[float] = float32s
) -> dict[str, NDArray[np.float32]]:
    """An adaptable state: named float32 arrays in a fixed order."""
    shapes = draw(st.dictionaries(array_names, array_shapes, max_size=4))
    return {name: draw(float32_arrays(shape, elements)) for name, shape in shapes.items()}


@st.composite
def adaptations(
    draw: DrawFn,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """A source state and a target: some arrays untouched, the others near or far away."""
    reach = draw(st.sampled_from([2.0**-24, 1.0, FLOAT16_MAX, 2.0**100]))
    elements = st.floats(-reach, reach, width=32)
    source = draw(adaptable_states(elements=elements))
    target = {
        name: array if draw(st.booleans()) else draw(float32_arrays(array.shape, elements))
        for name, array in source.items()
    }
    return source, target


def deltas() -> SearchStrategy[Delta]:
    """Deltas as the encoder writes them."""
    limits = st.sampled_from([None, 10_000])
    return st.builds(lambda pair, limit: encode_delta(*pair, limit_bytes=limit),
                     adaptations(), limits)  # fmt: skip
