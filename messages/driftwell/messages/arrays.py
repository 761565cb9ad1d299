"""Pure. Named arrays on the wire: dtype, shape and raw little-endian bytes, all bounded.

Only numeric dtypes of fixed size exist; nothing is ever unpickled. The decoder believes
none of the three parts: the length must be what dtype and shape demand, to the byte.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.messages.errors import ArrayError, RefusalCode

DTYPES: Final = frozenset(
    {"<f4", "<f2", "|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8", "|b1"}
)
MAX_DIMENSIONS: Final = 8
MAX_ARRAYS: Final = 4096

Shape = Annotated[
    tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(max_length=MAX_DIMENSIONS)
]


class NamedArray(msgspec.Struct, frozen=True, kw_only=True):
    """One array as it travels."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    dtype: Annotated[str, msgspec.Meta(max_length=3)]
    shape: Shape
    data: bytes


NamedArrays = Annotated[tuple[NamedArray, ...], msgspec.Meta(max_length=MAX_ARRAYS)]


def pack_array(name: str, array: NDArray[np.generic]) -> NamedArray:
    """Put an array into its wire form.

    Raises:
        ArrayError: if its dtype does not travel (see `DTYPES`).
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if little.dtype.str not in DTYPES:
        raise ArrayError(f"array {name!r}: dtype {array.dtype} does not travel")
    return NamedArray(name=name, dtype=little.dtype.str, shape=array.shape, data=little.tobytes())


def unpack_array(packed: NamedArray) -> NDArray[np.generic]:
    """Give the array back, read-only, sharing the memory of the message.

    Raises:
        ArrayError: if the dtype is unknown, the length is not what the shape demands, or a
            boolean is neither 0 nor 1.
    """
    if packed.dtype not in DTYPES:
        raise ArrayError(f"array {packed.name!r}: unknown dtype {packed.dtype!r}")
    dtype = np.dtype(packed.dtype)
    demanded = math.prod(packed.shape) * dtype.itemsize
    if demanded != len(packed.data):
        raise ArrayError(
            f"array {packed.name!r}: {packed.dtype} of shape {packed.shape} takes "
            f"{demanded} bytes, {len(packed.data)} came"
        )
    if dtype.kind == "b" and max(packed.data, default=0) > 1:
        raise ArrayError(f"array {packed.name!r}: a boolean is neither 0 nor 1")
    try:
        return np.frombuffer(packed.data, dtype=dtype).reshape(packed.shape)
    except ValueError as error:  # no elements, but an extent numpy cannot hold
        raise ArrayError(f"array {packed.name!r}: shape {packed.shape}: {error}") from error


def pack_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> tuple[NamedArray, ...]:
    """Put several arrays into their wire form, in the mapping's order."""
    return tuple(pack_array(name, array) for name, array in arrays.items())


def unpack_arrays(packed: Iterable[NamedArray]) -> dict[str, NDArray[np.generic]]:
    """Give several arrays back by name.

    Raises:
        ArrayError: if one is wrong or a name comes twice.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for array in packed:
        if array.name in arrays:
            raise ArrayError(f"array {array.name!r} comes twice")
        arrays[array.name] = unpack_array(array)
    return arrays


def require_finite(name: str, array: NDArray[np.generic]) -> None:
    """Refuse NaN and infinity.

    Raises:
        ArrayError: with code `not-finite`.
    """
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise ArrayError(f"array {name!r} holds NaN or infinity", RefusalCode.NOT_FINITE)
