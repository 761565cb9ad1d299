"""Sample batches: columns that fit their images, or none at all."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from tests.golden.fixed_messages import SAMPLES, SAMPLES_DOMAIN, SIGNATURE
from tests.strategies import sample_batches
from tests.unit.messages.tampering import fields_of, payload_with, payload_without

from driftwell.messages import NamedArray, SampleBatch, decode, encode
from driftwell.messages.arrays import pack_array
from driftwell.messages.errors import ArrayError, MalformedError
from driftwell.messages.names import MAX_DOMAIN
from driftwell.messages.samples import (
    COLUMNS,
    pack_columns,
    require_image_shape,
    unpack_columns,
)
from driftwell.messages.signature import MAX_CHANNELS, unpack_signature


def with_column(name: str, array: NDArray[np.generic]) -> SampleBatch:
    """The fixed batch of two images with one column replaced or added."""
    kept = tuple(column for column in SAMPLES.columns if column.name != name)
    return msgspec.structs.replace(SAMPLES, columns=(*kept, pack_array(name, array)))


def test_columns_come_back_as_they_went() -> None:
    """Index, entropy and prediction of each image keep their values and dtypes."""
    index = np.array([2**64 - 1, 0], np.uint64)
    entropy = np.array([0.5, 2.25], np.float32)
    prediction = np.array([65_535, 1], np.uint16)
    batch = msgspec.structs.replace(SAMPLES, columns=pack_columns(index, entropy, prediction))

    columns = unpack_columns(batch)

    assert {name: column.dtype.str for name, column in columns.items()} == COLUMNS
    np.testing.assert_array_equal(index, columns["index"])
    np.testing.assert_array_equal(entropy, columns["entropy"])
    np.testing.assert_array_equal(prediction, columns["prediction"])


@given(sample_batches())
def test_every_image_has_its_columns(batch: SampleBatch) -> None:
    """After a round trip there are as many values in each column as images."""
    received = decode(encode(batch))

    assert isinstance(received, SampleBatch)
    assert received.count == batch.images.shape[0]
    assert {(batch.count,)} == {column.shape for column in unpack_columns(received).values()}


@pytest.mark.parametrize("missing", COLUMNS)
def test_a_missing_column_is_refused(missing: str) -> None:
    """Each of the three columns is needed."""
    columns = tuple(column for column in SAMPLES.columns if column.name != missing)

    with pytest.raises(ArrayError, match=missing) as caught:
        unpack_columns(msgspec.structs.replace(SAMPLES, columns=columns))

    assert caught.value.code == "bad-array"


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("index", np.zeros(2, np.int64)),
        ("index", np.zeros(2, np.uint32)),
        ("entropy", np.zeros(2, np.float16)),
        ("prediction", np.zeros(2, np.int16)),
        ("prediction", np.zeros(1, np.uint16)),
        ("prediction", np.zeros(3, np.uint16)),
        ("entropy", np.zeros((2, 1), np.float32)),
        ("entropy", np.array(0, np.float32)),
    ],
)
def test_a_column_of_another_dtype_or_shape_is_refused(
    name: str, array: NDArray[np.generic]
) -> None:
    """A column must have its one dtype, and one value per image."""
    with pytest.raises(ArrayError, match=f"column '{name}' must be"):
        unpack_columns(with_column(name, array))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_entropy_that_is_not_finite_is_refused(value: float) -> None:
    """An entropy that is NaN or infinite never gets to the learner."""
    with pytest.raises(ArrayError) as caught:
        unpack_columns(with_column("entropy", np.array([0, value], np.float32)))

    assert caught.value.code == "not-finite"


def test_a_column_twice_is_refused() -> None:
    """Two columns of one name leave open which one counts."""
    twice = (*SAMPLES.columns, SAMPLES.columns[0])

    with pytest.raises(ArrayError, match="comes twice"):
        unpack_columns(msgspec.structs.replace(SAMPLES, columns=twice))


def test_a_column_of_a_later_version_is_let_through() -> None:
    """A column that this program does not know does no harm."""
    columns = unpack_columns(with_column("confidence", np.zeros(2, np.float32)))

    assert set(COLUMNS) | {"confidence"} == set(columns)


def test_an_unknown_column_must_still_be_an_array() -> None:
    """An unknown column that lies about its length is refused with the batch."""
    liar = NamedArray(name="later", dtype="<f4", shape=(2,), data=b"")

    with pytest.raises(ArrayError, match="later"):
        unpack_columns(msgspec.structs.replace(SAMPLES, columns=(*SAMPLES.columns, liar)))


@pytest.mark.parametrize("expected", [(8, 8, 1), (8, 9, 3), (9, 8, 3), (32, 32, 3)])
def test_images_of_another_size_than_the_models_are_refused(
    expected: tuple[int, int, int],
) -> None:
    """Height, width and channels are compared before a pixel is unpacked."""
    require_image_shape(SAMPLES, (8, 8, 3))

    with pytest.raises(ArrayError, match="the model takes"):
        require_image_shape(SAMPLES, expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("oldest_seq", -1),
        ("oldest_seq", None),
        ("cohort", ""),
        ("cohort", "_"),
        ("cohort", "yard/1"),
        ("columns", None),
        ("columns", [1]),
    ],
)
def test_a_batch_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """A batch that breaks a rule is refused when it is decoded."""
    with pytest.raises(MalformedError):
        decode(payload_with(SAMPLES, field, value))


@pytest.mark.parametrize("field", ["drifts", "domain", "signature"])
def test_a_batch_need_not_say_where_it_was_taken(field: str) -> None:
    """Each of the three may be absent, and the others still count."""
    message = decode(payload_without(SAMPLES_DOMAIN, field))

    assert message == msgspec.structs.replace(SAMPLES_DOMAIN, **{field: msgspec.UNSET})


def test_what_is_absent_takes_no_bytes() -> None:
    """A device that does not watch for drift sends what it sent before there were domains."""
    bare = msgspec.structs.replace(
        SAMPLES_DOMAIN, drifts=msgspec.UNSET, domain=msgspec.UNSET, signature=msgspec.UNSET
    )

    assert list(fields_of(SAMPLES)) == list(fields_of(bare))
    assert not {"drifts", "domain", "signature"} & set(fields_of(bare))


@pytest.mark.parametrize("domain", [0, 1, MAX_DOMAIN])
def test_a_domain_travels(domain: int) -> None:
    """Any domain of a cohort can be named, the first one too."""
    message = decode(payload_with(SAMPLES_DOMAIN, "domain", domain))

    assert isinstance(message, SampleBatch)
    assert message.domain == domain


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("drifts", -1),
        ("drifts", 0.5),
        ("drifts", None),
        ("domain", -1),
        ("domain", MAX_DOMAIN + 1),
        ("domain", "1"),
        ("domain", None),
        ("signature", None),
        ("signature", {}),
        ("signature.mean", b""),
        ("signature.mean", bytes(3)),
        ("signature.mean", bytes(4 * MAX_CHANNELS + 1)),
        ("signature.mean", [0.5]),
        ("signature.variance", bytes(3)),
        ("signature.variance", bytes(4 * MAX_CHANNELS + 4)),
        ("signature.images", -1),
        ("signature.images", None),
    ],
)
def test_a_place_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """A number or a length that cannot be is refused when the batch is decoded."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_with(SAMPLES_DOMAIN, field, value))


@pytest.mark.parametrize(
    ("field", "value"),
    [("mean", SIGNATURE.mean[:-1]), ("variance", SIGNATURE.variance[:-4]), ("images", 0)],
)
def test_a_signature_is_looked_into_when_it_is_used(field: str, value: object) -> None:
    """What is within bounds but no signature is decoded, and refused as an array."""
    message = decode(payload_with(SAMPLES_DOMAIN, f"signature.{field}", value))

    assert isinstance(message, SampleBatch)
    assert not isinstance(message.signature, msgspec.UnsetType)
    with pytest.raises(ArrayError) as caught:
        unpack_signature(message.signature)
    assert caught.value.code == "bad-array"
