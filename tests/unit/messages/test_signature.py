"""Signatures: their distance is the divergence it says, mixing is pooling, and they travel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from tests.golden.fixed_messages import MEAN, SIGNATURE, VARIANCE
from tests.strategies import signatures

from driftwell.messages import PackedSignature
from driftwell.messages.envelope import MAX_COUNT
from driftwell.messages.errors import ArrayError
from driftwell.messages.signature import (
    MAX_CHANNELS,
    Signature,
    distance,
    make_signature,
    mix,
    pack_signature,
    pool,
    unpack_signature,
)

moments = npst.arrays(np.float32, 3, elements=st.floats(-100, 100, width=32))
spreads = npst.arrays(np.float32, 3, elements=st.floats(0, 100, width=32))
LARGEST = float(np.finfo(np.float32).max)


def test_the_distance_is_the_symmetric_divergence() -> None:
    """Two channels by hand: KL(N(0,1), N(2,4)) is ln 2 + 5/8 - 1/2, and so on."""
    a = make_signature([0.0, 1.0], [1.0, 3.0], images=1)
    b = make_signature([2.0, 1.0], [4.0, 3.0], images=1)

    forth = np.log(2) + (1 + 4) / 8 - 0.5
    back = -np.log(2) + (4 + 4) / 2 - 0.5
    assert distance(a, b) == pytest.approx((forth + back) / 2 / 2)


@given(moments, spreads, moments, spreads)
def test_the_distance_is_symmetric_and_never_negative(
    m1: NDArray[np.float32],
    v1: NDArray[np.float32],
    m2: NDArray[np.float32],
    v2: NDArray[np.float32],
) -> None:
    """D(a, b) = D(b, a) >= 0, finite, and D(a, a) = 0, dead channels included."""
    a, b = make_signature(m1, v1, images=1), make_signature(m2, v2, images=1)

    assert distance(a, b) == pytest.approx(distance(b, a))
    assert 0 <= distance(a, b) < np.inf
    assert distance(a, a) == 0


def test_the_largest_numbers_have_a_distance() -> None:
    """No finite float32 gives infinity or NaN, nor does a mixture of them."""
    a = make_signature([LARGEST, 0.0], [0.0, LARGEST], images=1)
    b = make_signature([-LARGEST, 0.0], [LARGEST, 0.0], images=1)

    assert np.isfinite(distance(a, b))
    assert np.isfinite(distance(pool(a, b), b))


@given(
    pixels=npst.arrays(np.float64, (5, 2, 6), elements=st.floats(-10, 10)),
    first=st.integers(1, 4),
)
def test_pooled_is_measured_together(pixels: NDArray[np.float64], first: int) -> None:
    """Pooling two signatures gives the moments of all their pixels, (N, C, H W)."""
    parts = [
        make_signature(part.mean((0, 2)), part.var((0, 2)), images=len(part))
        for part in (pixels[:first], pixels[first:])
    ]

    both = pool(*parts)

    np.testing.assert_allclose(both.mean, pixels.mean((0, 2)), atol=1e-9)
    np.testing.assert_allclose(both.variance, pixels.var((0, 2)), atol=1e-9)
    assert both.images == 5


def test_the_ends_of_a_mixture() -> None:
    """Weight 0 is the old one, weight 1 the new one."""
    a = make_signature([0.0], [1.0], images=3)
    b = make_signature([2.0], [4.0], images=4)

    ends = [(float(s.mean[0]), float(s.variance[0])) for s in (mix(a, b, 0), mix(a, b, 1))]
    assert ends == [(0.0, 1.0), (2.0, 4.0)]


@pytest.mark.parametrize(
    ("mean", "variance", "images", "code"),
    [
        ([0.0], [1.0, 2.0], 1, "bad-array"),
        ([[0.0]], [[1.0]], 1, "bad-array"),
        ([], [], 1, "bad-array"),
        ([0.0] * (MAX_CHANNELS + 1), [1.0] * (MAX_CHANNELS + 1), 1, "bad-array"),
        ([np.nan], [1.0], 1, "not-finite"),
        ([np.inf], [1.0], 1, "not-finite"),
        ([-np.inf], [1.0], 1, "not-finite"),
        ([0.0], [np.nan], 1, "not-finite"),
        ([0.0], [-np.inf], 1, "not-finite"),
        ([0.0], [1e300], 1, "not-finite"),
        ([0.0], [-1.0], 1, "bad-array"),
        ([0.0], [1.0], 0, "bad-array"),
    ],
)
def test_what_is_no_signature_is_refused(
    mean: list[float], variance: list[float], images: int, code: str
) -> None:
    """Shapes, values and counts that cannot be are errors of ours."""
    with pytest.raises(ArrayError) as caught:
        make_signature(mean, variance, images=images)

    assert caught.value.code == code


def test_other_channels_cannot_be_compared() -> None:
    """Signatures of two models are not mixed up."""
    a = make_signature([0.0], [1.0], images=1)
    b = make_signature([0.0, 0.0], [1.0, 1.0], images=1)

    for combine in (distance, pool):
        with pytest.raises(ArrayError, match="1 and 2 channels"):
            combine(a, b)


def test_a_signature_cannot_be_changed_from_outside() -> None:
    """It keeps its own copy, and that is read-only."""
    mean = np.zeros(2)
    signature = make_signature(mean, np.ones(2), images=1)
    mean[0] = 5

    assert signature.mean[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        signature.mean[0] = 1


@given(signatures())
def test_what_was_measured_travels_to_the_bit(signature: Signature) -> None:
    """Moments that are float32 come back as they went, and so does the number of images."""
    received = unpack_signature(pack_signature(signature))

    assert received.mean.tobytes() == signature.mean.tobytes()
    assert received.variance.tobytes() == signature.variance.tobytes()
    assert received.images == signature.images


@given(signatures(), st.floats(0, 1))
def test_what_was_computed_is_rounded_once(signature: Signature, weight: float) -> None:
    """A mixture travels as the nearest float32, and from then on to the bit."""
    flat = make_signature(0 * signature.mean, 0 * signature.variance, images=1)
    mixed = mix(signature, flat, weight)
    packed = pack_signature(mixed)

    received = unpack_signature(packed)

    np.testing.assert_array_equal(mixed.mean.astype(np.float32), received.mean)
    np.testing.assert_array_equal(mixed.variance.astype(np.float32), received.variance)
    assert received.images == mixed.images
    assert pack_signature(received) == packed


def test_a_signature_travels_as_little_endian_float32() -> None:
    """Four bytes a channel, in the order of the channels; -0 keeps its sign."""
    packed = pack_signature(make_signature([1.5, -0.0], [1.0, 0.0], images=7))

    assert packed == PackedSignature(
        mean=bytes.fromhex("0000c03f 00000080"), variance=bytes.fromhex("0000803f 00000000"),
        images=7,
    )  # fmt: skip
    assert pack_signature(make_signature(MEAN, VARIANCE, images=192)) == SIGNATURE


def test_the_widest_signature_travels() -> None:
    """Of MAX_CHANNELS channels and the largest numbers, nothing is lost."""
    widest = make_signature([-LARGEST] * MAX_CHANNELS, [LARGEST] * MAX_CHANNELS, images=MAX_COUNT)

    assert distance(widest, unpack_signature(pack_signature(widest))) == 0


@pytest.mark.parametrize(
    ("mean", "variance", "images", "code"),
    [
        ("", "", 1, "bad-array"),
        ("0000803f", "", 1, "bad-array"),
        ("0000803f", "0000803f0000803f", 1, "bad-array"),
        ("000080", "000080", 1, "bad-array"),
        ("0000803f00", "0000803f00", 1, "bad-array"),
        ("0000803f", "0000803f000000", 1, "bad-array"),
        ("0000803f" * (MAX_CHANNELS + 1), "0000803f" * (MAX_CHANNELS + 1), 1, "bad-array"),
        ("0000c07f", "0000803f", 1, "not-finite"),
        ("0100807f", "0000803f", 1, "not-finite"),  # a NaN that signals
        ("0000803f", "0100807f", 1, "not-finite"),
        ("000080ff", "0000803f", 1, "not-finite"),
        ("0000803f", "0000807f", 1, "not-finite"),
        ("0000803f", "000080ff", 1, "not-finite"),
        ("0000803f", "000080bf", 1, "bad-array"),  # -1
        ("0000803f", "01000080", 1, "bad-array"),  # the smallest number below 0
        ("0000803f", "0000803f", 0, "bad-array"),
    ],
)
def test_what_came_as_no_signature_is_refused(
    mean: str, variance: str, images: int, code: str
) -> None:
    """Bytes that are no moments are refused under their code, and warn of nothing."""
    packed = PackedSignature(
        mean=bytes.fromhex(mean), variance=bytes.fromhex(variance), images=images
    )

    with pytest.raises(ArrayError) as caught:
        unpack_signature(packed)

    assert caught.value.code == code
