"""Pure. How a device gets the pieces it lacks: it asks, and chunks of their content come.

A device asks for a piece by the digest of its arrays, and says what it holds of that module
already. What comes is a *content*: the arrays, or differences from a piece it holds. Contents are
cut into chunks that fit a message; who has the first chunks asks for the rest. Neither question
nor answer is signed: the piece's name is, in the sub-model's manifest.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.messages.arrays import NamedArrays, pack_arrays, require_finite, unpack_arrays
from driftwell.messages.delta import Delta, apply_delta, encode_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.envelope import Count, Digest, Envelope
from driftwell.messages.errors import ArrayError, DeltaError, MalformedError, RefusalCode
from driftwell.messages.submodel import Number
from driftwell.messages.telemetry import MAX_LAYERS

MAX_WANTS: Final = 4096
MAX_STEPS: Final = 64
"""Differences one after the other in a content."""
LEAST_BYTES: Final = 512
"""Of a difference: its frame and steps need some, however small the module."""
CHUNK_BYTES: Final = 65_536
"""Of a content in a message, as this implementation cuts it."""

Arrays = Mapping[str, NDArray[np.float32]]


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One piece that a device lacks."""

    layer: Annotated[int, msgspec.Meta(ge=0, lt=MAX_LAYERS)]
    module: Number
    piece: Digest
    """What its arrays shall be."""
    have: Digest | msgspec.UnsetType = msgspec.UNSET
    """The newest piece of this module that the device holds; absent if it holds none."""
    content: Digest | msgspec.UnsetType = msgspec.UNSET
    """The content of which it holds the beginning; absent if it holds nothing."""
    offset: Count = 0
    """Bytes of that content it holds."""


class Fetch(Envelope, frozen=True, kw_only=True, tag="fetch"):
    """A device asks for pieces; the answer to an earlier question is not waited for any more."""

    submodel: Count
    """The version of the sub-model they are for."""
    wants: Annotated[tuple[Want, ...], msgspec.Meta(max_length=MAX_WANTS)]


class Blob(Envelope, frozen=True, kw_only=True, tag="blob"):
    """A chunk of a content."""

    piece: Digest
    """What the content leads to."""
    base: Digest | msgspec.UnsetType = msgspec.UNSET
    """The piece it is a difference from; absent if it stands alone."""
    content: Digest
    """SHA-256 of the whole content."""
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    """Of the whole content."""
    offset: Count
    data: bytes


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece, as arrays or as differences from another piece of the same module."""

    arrays: NamedArrays = ()
    deltas: Annotated[tuple[Delta, ...], msgspec.Meta(max_length=MAX_STEPS)] = ()
    """One after the other; an array's position is that of its name in ascending order."""


_content: Final[msgspec.msgpack.Decoder[Content]] = msgspec.msgpack.Decoder(Content)


def encode_whole(piece: Arrays) -> bytes:
    """A piece's content that needs no other piece."""
    return msgspec.msgpack.encode(Content(arrays=pack_arrays(in_order(piece))))


def encode_steps(deltas: tuple[Delta, ...]) -> bytes:
    """The content that leads from one piece to another by 1 to MAX_STEPS differences."""
    return msgspec.msgpack.encode(Content(deltas=deltas))


def encode_difference(before: Arrays, after: Arrays, *, bits: float) -> Delta:
    """What leads from a piece to another one of its module, in few bits a value.

    Args:
        before: Any order of names.
        after: Of the same names and shapes.
        bits: Of a value, at most; but LEAST_BYTES are allowed in any case.

    Raises:
        ArrayError: if names or shapes differ, or a difference is not finite.
    """
    values = sum(array.size for array in before.values())
    limit = max(LEAST_BYTES, int(values * bits / 8))
    return encode_delta(in_order(before), in_order(after), limit_bytes=limit)


def decode_content(
    encoded: bytes, *, piece: str, base: Arrays | None
) -> dict[str, NDArray[np.float32]]:
    """The arrays a content leads to, float32, in the order of their names.

    Args:
        encoded: The whole content.
        piece: The digest of what it must lead to.
        base: The piece that differences start from; None: it stands alone.

    Raises:
        MalformedError: if the bytes are no content.
        ArrayError: if arrays or differences are not finite or do not fit.
        DeltaError: `wrong-result` if it leads to other arrays.
    """
    try:
        content = _content.decode(encoded)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedError(f"these bytes are no content of a piece: {error}") from error
    if (base is not None) != bool(content.deltas) or (content.arrays and content.deltas):
        raise ArrayError("a content is either arrays, or differences from a piece")
    arrays = in_order(base) if base is not None else _float32(content.arrays)
    for delta in content.deltas:
        arrays = apply_delta(arrays, delta)
    if digest_arrays(arrays) != piece:
        raise DeltaError("the content leads to another piece than promised",
                         RefusalCode.WRONG_RESULT)  # fmt: skip
    return arrays


def chunks(
    encoded: bytes, *, offset: int = 0, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[int, bytes]]:
    """A content from an offset on, cut into (offset, at most `chunk_bytes`)."""
    for start in range(offset, len(encoded), chunk_bytes):
        yield start, encoded[start : start + chunk_bytes]


def in_order(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """The same arrays in ascending order of their names, which differences count in."""
    return {name: arrays[name] for name in sorted(arrays)}


def _float32(packed: NamedArrays) -> dict[str, NDArray[np.float32]]:
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, array in sorted(unpack_arrays(packed).items()):
        if array.dtype != np.float32:
            raise ArrayError(f"array {name!r} of a piece is {array.dtype}, not float32")
        require_finite(name, array)
        arrays[name] = array.astype(np.float32)
    return arrays
