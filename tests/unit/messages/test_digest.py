"""Digests: one name for one content, whoever computes it."""

import hashlib
import struct
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.array_strategies import array_sets, arrays

from driftwell.messages import digest_arrays, digest_bytes
from driftwell.messages.errors import ArrayError


def test_bytes_are_named_by_their_sha256() -> None:
    """The digest of bytes is their SHA-256 in lower-case hexadecimal."""
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    assert expected == digest_bytes(b"abc")


def test_arrays_are_named_as_the_specification_says() -> None:
    """Name, dtype and shape, each ended by NUL, then the bytes; array after array by name."""
    hashed = (
        b"a\0<f4\0(2, 1)\0" + struct.pack("<2f", 1.5, -2.0)
        + b"b\0<i8\0()\0" + struct.pack("<q", 7)
        + b"c\0|u1\0(3,)\0" + bytes([1, 2, 3])
    )  # fmt: skip
    held: dict[str, NDArray[np.generic]] = {
        "c": np.array([1, 2, 3], np.uint8),
        "a": np.array([[1.5], [-2.0]], np.float32),
        "b": np.array(7, np.int64),
    }

    assert hashlib.sha256(hashed).hexdigest() == digest_arrays(held)


def test_no_arrays_have_a_digest() -> None:
    """The empty set is named by the digest of no bytes."""
    assert digest_bytes(b"") == digest_arrays({})


@given(array_sets(), st.randoms())
def test_order_does_not_matter(held: dict[str, NDArray[np.generic]], random: Random) -> None:
    """The digest is the same in whatever order the arrays were put together."""
    names = list(held)
    random.shuffle(names)

    assert digest_arrays(held) == digest_arrays({name: held[name] for name in names})


@given(arrays())
def test_memory_layout_does_not_matter(array: NDArray[np.generic]) -> None:
    """Byte order and column order in memory do not show in the digest."""
    elsewhere = np.asfortranarray(array).reshape(array.shape)

    swapped = elsewhere.astype(array.dtype.newbyteorder(">"))

    assert digest_arrays({"a": array}) == digest_arrays({"a": elsewhere})
    assert digest_arrays({"a": array}) == digest_arrays({"a": swapped})


@given(array_sets().filter(bool), st.data())
def test_every_bit_of_every_value_matters(
    held: dict[str, NDArray[np.generic]], data: st.DataObject
) -> None:
    """Flipping any one bit of any array changes the digest."""
    name = data.draw(st.sampled_from(sorted(held)))
    array = held[name]
    if array.nbytes == 0 or array.dtype == np.bool_:
        return
    content = bytearray(array.tobytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    flipped = np.frombuffer(bytes(content), array.dtype).reshape(array.shape)

    assert digest_arrays(held) != digest_arrays(held | {name: flipped})


def test_zero_and_negative_zero_differ() -> None:
    """Values that compare equal but differ in a bit have different digests."""
    plus, minus = np.zeros(1, np.float32), -np.zeros(1, np.float32)

    assert digest_arrays({"a": plus}) != digest_arrays({"a": minus})


def test_name_dtype_and_shape_matter() -> None:
    """Twelve zero bytes under another name, dtype or shape are something else."""
    zeros = bytes(12)
    held: list[dict[str, NDArray[np.generic]]] = [
        {"a": np.frombuffer(zeros, np.float32)},
        {"b": np.frombuffer(zeros, np.float32)},
        {"a": np.frombuffer(zeros, np.uint32)},
        {"a": np.frombuffer(zeros, np.int32)},
        {"a": np.frombuffer(zeros, np.float32).reshape(3, 1)},
        {"a": np.frombuffer(zeros, np.float32).reshape(1, 3)},
        {"a": np.frombuffer(zeros, np.float16)},
        {"a": np.frombuffer(zeros, np.float16).reshape(2, 3)},
        {"a": np.frombuffer(zeros, np.float32)[:1], "b": np.frombuffer(zeros, np.float32)[1:]},
        {"a": np.frombuffer(zeros, np.float32)[:2], "b": np.frombuffer(zeros, np.float32)[2:]},
    ]

    assert len(held) == len({digest_arrays(one) for one in held})


def test_a_scalar_differs_from_an_array_of_one() -> None:
    """The empty shape is a shape of its own."""
    scalar, single = np.array(1, np.float32), np.array([1], np.float32)

    assert digest_arrays({"a": scalar}) != digest_arrays({"a": single})


def test_a_name_that_could_pass_for_content_has_no_digest() -> None:
    """A name with NUL in it could imitate another set of arrays, and is refused."""
    one, two = np.frombuffer(b"\1\2\3\4", np.float32), np.frombuffer(b"\5\6\7\10", np.float32)
    assert digest_arrays({"a": one, "b": two})

    with pytest.raises(ArrayError, match="has no digest"):
        digest_arrays({"a\0<f4\0(1,)\0\1\2\3\4b": two})


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["a"]), np.array([1j])])
def test_what_is_not_plain_numbers_has_no_digest(array: NDArray[np.generic]) -> None:
    """Python objects, whose bytes are addresses, and other non-numbers are refused."""
    with pytest.raises(ArrayError, match="has no digest"):
        digest_arrays({"a": array})
