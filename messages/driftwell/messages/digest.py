"""Pure. The one way to name a set of arrays, or bytes, by what they hold."""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.errors import ArrayError


def digest_bytes(content: bytes) -> str:
    """SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """SHA-256 over name, dtype, shape and little-endian bytes of each array, by name.

    The order in which the mapping was built does not matter; every bit of every value does.

    Raises:
        ArrayError: if two different sets could have the same digest: a name holds NUL, which
            ends names here, or an array holds something else than numbers.
    """
    state = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        if "\0" in name or array.dtype.kind not in "biuf":
            raise ArrayError(f"array {name!r} of dtype {array.dtype} has no digest")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        state.update(f"{name}\0{little.dtype.str}\0{array.shape}\0".encode())
        state.update(little.tobytes())
    return state.hexdigest()
