"""Named arrays: what was packed comes back, and nothing that lies about itself does."""

import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.array_strategies import array_sets, arrays
from tests.golden.fixed_messages import UPDATE
from tests.unit.messages.tampering import payload_with

from driftwell.messages import NamedArray, decode
from driftwell.messages.arrays import (
    DTYPES,
    MAX_ARRAYS,
    pack_array,
    pack_arrays,
    require_finite,
    unpack_array,
    unpack_arrays,
)
from driftwell.messages.errors import ArrayError, MalformedError


@given(array_sets())
def test_arrays_come_back_as_they_went(sent: dict[str, NDArray[np.generic]]) -> None:
    """Names, order, dtypes, shapes and every bit of every value survive, NaN included."""
    received = unpack_arrays(pack_arrays(sent))

    assert list(sent) == list(received)
    for name, array in sent.items():
        assert (array.dtype, array.shape) == (received[name].dtype, received[name].shape)
        assert array.tobytes() == received[name].tobytes()


def test_the_bytes_are_little_endian_in_row_order() -> None:
    """A big-endian array in column order travels as little-endian rows."""
    array = np.asfortranarray(np.array([[1, 2], [3, 4]], dtype=">u2"))

    packed = pack_array("a", array)

    assert packed == NamedArray(
        name="a", dtype="<u2", shape=(2, 2), data=struct.pack("<4H", 1, 2, 3, 4)
    )


def test_a_scalar_keeps_its_shape() -> None:
    """An array of no dimensions has one value and the empty shape."""
    packed = pack_array("steps", np.array(7, dtype=np.int64))

    assert packed.shape == ()
    assert unpack_array(packed).shape == ()


def test_what_comes_out_cannot_be_written_to() -> None:
    """An unpacked array is read-only: it is the message's own memory."""
    array: Any = unpack_array(pack_array("a", np.zeros(3, np.float32)))

    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(1, np.float64),
        np.zeros(1, np.complex64),
        np.array(["text"]),
        np.array([b"text"]),
        np.array([object()]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.zeros(1, dtype=[("a", np.int32)]),
    ],
)
def test_other_dtypes_do_not_travel(array: NDArray[np.generic]) -> None:
    """Doubles, texts, dates, records and Python objects are refused by the sender."""
    with pytest.raises(ArrayError, match="does not travel"):
        pack_array("a", array)


@given(st.text(max_size=3).filter(lambda dtype: dtype not in DTYPES))
def test_an_unknown_dtype_is_refused(dtype: str) -> None:
    """A dtype outside the list is refused by the receiver, whatever numpy would make of it."""
    with pytest.raises(ArrayError, match="unknown dtype"):
        unpack_array(NamedArray(name="a", dtype=dtype, shape=(0,), data=b""))


@pytest.mark.parametrize("dtype", ["|O", "<f8", ">f4", "=f4", "f4", "<m8", "<U1", "|V8", "|S1"])
def test_dtypes_numpy_knows_and_we_do_not_are_refused(dtype: str) -> None:
    """Objects, other byte orders and other spellings are refused: one dtype, one spelling."""
    with pytest.raises(ArrayError, match="unknown dtype"):
        unpack_array(NamedArray(name="a", dtype=dtype, shape=(1,), data=b"\0" * 8))


@given(arrays(), st.integers(-4, 4).filter(bool))
def test_a_wrong_length_is_refused(array: NDArray[np.generic], off_by: int) -> None:
    """Data that is a few bytes too short or too long for its shape is refused."""
    packed = pack_array("a", array)
    data = (packed.data + b"\0" * 4)[: max(0, len(packed.data) + off_by)]
    if len(data) == len(packed.data):
        return

    with pytest.raises(ArrayError, match="takes"):
        unpack_array(msgspec.structs.replace(packed, data=data))


@pytest.mark.parametrize(
    "shape", [(2**32, 2**32), (2**63, 2**63, 2**63), (2**64 - 1,), (0, 2**63), (0, 2**62, 2**62)]
)
def test_an_absurd_shape_is_refused(shape: tuple[int, ...]) -> None:
    """Extents whose product overflows, or which numpy cannot hold, are a WireError too."""
    with pytest.raises(ArrayError):
        unpack_array(NamedArray(name="a", dtype="<f4", shape=shape, data=b""))


@given(st.binary(min_size=1, max_size=20))
def test_booleans_are_zero_or_one(data: bytes) -> None:
    """A boolean array holds zeros and ones alone, or is refused."""
    packed = NamedArray(name="a", dtype="|b1", shape=(len(data),), data=data)
    if set(data) <= {0, 1}:
        assert unpack_array(packed).tolist() == [byte == 1 for byte in data]
    else:
        with pytest.raises(ArrayError, match="neither 0 nor 1"):
            unpack_array(packed)


def test_a_name_twice_is_refused() -> None:
    """Two arrays of one name are refused, were they even the same."""
    packed = pack_array("a", np.zeros(1, np.float32))

    with pytest.raises(ArrayError, match="comes twice"):
        unpack_arrays([packed, packed])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_nan_and_infinity_are_told_apart_from_bad_arrays(value: float, dtype: type) -> None:
    """Where finite values are required, one NaN or infinity refuses the array by that name."""
    with pytest.raises(ArrayError, match="'x' holds NaN or infinity") as caught:
        require_finite("x", np.array([0, value, 0], dtype=dtype))

    assert caught.value.code == "not-finite"


@given(arrays())
def test_require_finite_agrees_with_numpy(array: NDArray[Any]) -> None:
    """Integers and booleans always pass; floats pass exactly if all are finite."""
    if bool(np.isfinite(array).all()):
        require_finite("x", array)
    else:
        with pytest.raises(ArrayError):
            require_finite("x", array)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a" * 201),
        ("name", None),
        ("dtype", "<f4 "),
        ("shape", [-1]),
        ("shape", [1.0]),
        ("shape", [1] * 9),
        ("data", "text"),
    ],
)
def test_an_array_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """A named array that breaks a rule is refused when the message is decoded."""
    array = {"name": "a", "dtype": "|u1", "shape": [1], "data": b"\0"}
    assert decode(payload_with(UPDATE, "arrays", [array])) != UPDATE

    with pytest.raises(MalformedError):
        decode(payload_with(UPDATE, "arrays", [array | {field: value}]))


def test_a_message_has_a_bounded_number_of_arrays() -> None:
    """One array over the limit is refused by the decoder."""
    array = {"name": "a", "dtype": "|u1", "shape": [0], "data": b""}
    limit_bytes = 1_000_000

    decode(payload_with(UPDATE, "arrays", [array] * MAX_ARRAYS), limit_bytes=limit_bytes)
    with pytest.raises(MalformedError):
        decode(payload_with(UPDATE, "arrays", [array] * (MAX_ARRAYS + 1)), limit_bytes=limit_bytes)
