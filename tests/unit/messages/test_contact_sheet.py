"""Images with loss: one JPEG picture of all, decoded only to exactly what the shape demands."""

from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.array_strategies import images

from driftwell.messages import pack_images, unpack_images
from driftwell.messages.contact_sheet import decode_sheet, encode_sheet, sheet_size
from driftwell.messages.errors import ArrayError
from driftwell.messages.images import MAX_QUALITY

Pixels = NDArray[np.uint8]
SIDE: Final = 32
HEADERS: Final = 610  # bytes of a sheet's segments, at most


def scenes(count: int, channels: int = 3) -> Pixels:
    """Smooth images with a little noise, each of another colour."""
    draw = np.random.default_rng(count)
    ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE))[None, :, :, None] * 2.0
    colour = draw.integers(0, 100, (count, 1, 1, channels))
    noise = draw.normal(0, 6, (count, SIDE, SIDE, channels))
    return np.clip(ramp + colour + noise, 0, 255).astype(np.uint8)


def noise() -> st.SearchStrategy[Pixels]:
    """Noisy images of any small shape, large enough that JPEG often pays."""
    shapes = st.tuples(
        st.integers(1, 20), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4)
    )
    return shapes.map(lambda shape: np.random.default_rng(0).integers(0, 256, shape, np.uint8))


PACKED: Final = pack_images(scenes(5), quality=80)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 10, 64])
def test_images_come_back_nearly_as_they_were(count: int, channels: int) -> None:
    """Every image is in its place again, in less than half the bytes; headers set aside."""
    pixels = scenes(count, channels)

    packed = pack_images(pixels, quality=80)
    unpacked = unpack_images(packed)

    assert packed.encoding == "jpeg"
    assert len(packed.data) - HEADERS < len(pack_images(pixels).data) / 2
    assert unpacked.shape == pixels.shape
    assert unpacked.dtype == np.uint8
    distance = np.abs(unpacked.astype(int) - pixels).mean(axis=(1, 2, 3))
    assert distance.max() < 8


def test_a_higher_quality_is_nearer_and_larger() -> None:
    """Quality orders both bytes and errors."""
    pixels = scenes(16)
    packed = [pack_images(pixels, quality=quality) for quality in (1, 50, 85)]

    errors = [float(np.abs(unpack_images(one).astype(int) - pixels).mean()) for one in packed]

    assert sorted(len(one.data) for one in packed) == [len(one.data) for one in packed]
    assert sorted(errors, reverse=True) == errors


def test_no_quality_is_without_loss() -> None:
    """Without a quality every pixel comes back."""
    pixels = scenes(5)

    np.testing.assert_array_equal(pixels, unpack_images(pack_images(pixels, quality=None)))


@given(images() | noise(), st.integers(1, MAX_QUALITY))
def test_loss_is_never_larger_than_none(pixels: Pixels, quality: int) -> None:
    """Any images at any quality unpack to their shape, in at most the bytes without loss."""
    exact = pack_images(pixels)

    packed = pack_images(pixels, quality=quality)

    assert len(packed.data) <= len(exact.data)
    assert unpack_images(packed).shape == pixels.shape
    if packed.encoding != "jpeg":
        assert packed == exact


@pytest.mark.parametrize(
    "shape", [(9, 64, 64, 2), (9, 64, 64, 4), (1, 1, 65_501, 3), (1, 65_501, 1, 1)]
)
def test_what_jpeg_cannot_hold_travels_without_loss(shape: tuple[int, int, int, int]) -> None:
    """Other numbers of channels and longer sides are packed exactly."""
    pixels = np.random.default_rng(0).integers(0, 4, shape, np.uint8)

    assert pack_images(pixels, quality=10) == pack_images(pixels)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 2, 3, 3), (8, 8)),
        ((2, 8, 16, 3), (32, 8)),
        ((3, 9, 3, 1), (16, 32)),
        ((4, 2, 3, 1), (16, 16)),
        ((5, 2, 17, 3), (72, 16)),
        ((1, 1, 65_496, 3), (65_496, 8)),
        ((1, 1, 65_497, 3), None),
        ((1, 4096, 4096, 3), (4096, 4096)),
        ((1, 4096, 4097, 3), None),
        ((2**40, 1, 1, 3), None),
    ],
)
def test_the_sheet_is_as_square_as_it_can_be(
    shape: tuple[int, int, int, int], size: tuple[int, int] | None
) -> None:
    """ceil(sqrt(N)) columns, as many rows as needed, whole blocks, a bound on sides and pixels."""
    assert sheet_size(shape) == size


@pytest.mark.parametrize("quality", [-1, 0, 96])
def test_another_quality_is_refused(quality: int) -> None:
    """Quality is 1 to 95."""
    with pytest.raises(ArrayError, match="quality"):
        pack_images(scenes(1), quality=quality)


@pytest.mark.parametrize(
    "shape",
    [(5, SIDE, SIDE, 1), (6, SIDE, SIDE, 3), (2, SIDE, SIDE, 3), (5, SIDE, 33, 3), (5, 24, SIDE, 3),
     (5, SIDE, SIDE, 4), (1, 1, 2**27, 1), (2**27, 1, 1, 1)],
)  # fmt: skip
def test_another_shape_than_the_picture_is_refused(shape: tuple[int, int, int, int]) -> None:
    """The picture has the size that the shape demands; more of its places may be used."""
    packed = msgspec.structs.replace(PACKED, shape=shape)
    if sheet_size(shape) == sheet_size(PACKED.shape) and shape[-1] == PACKED.shape[-1]:
        assert unpack_images(packed).shape == shape
        return

    with pytest.raises(ArrayError):
        unpack_images(packed)


def test_chroma_keeps_its_resolution() -> None:
    """Noise of colour alone, pixel by pixel, is still there."""
    sign = np.random.default_rng(0).choice([-30, 30], (16, SIDE, SIDE))
    pixels = (128 + np.stack([sign, -sign // 2, sign * 0], axis=-1)).astype(np.uint8)

    packed = pack_images(pixels, quality=85)
    unpacked = unpack_images(packed)

    assert packed.encoding == "jpeg"
    assert np.sqrt(np.mean((unpacked.astype(float) - pixels) ** 2)) < 8


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(5, 13), (28, 28), (8, 31), (1, 1)])
def test_images_leave_no_trace_in_their_neighbours(height: int, width: int, channels: int) -> None:
    """Images of one value each come back as that value, whatever lies beside them."""
    values = np.tile(np.array([0, 255, 40], np.uint8), 3)[:8]
    pixels = np.broadcast_to(values[:, None, None, None], (8, height, width, channels))
    sheet = encode_sheet(np.ascontiguousarray(pixels), 85)

    unpacked = decode_sheet(sheet, (8, height, width, channels))

    assert np.abs(unpacked.astype(int) - pixels).max() <= 2


@pytest.mark.parametrize("quality", [1, 85, MAX_QUALITY])
def test_noise_is_encoded(quality: int) -> None:
    """The dearest sheets there are do not make the encoder give up."""
    pixels = np.random.default_rng(0).integers(0, 2, (64, SIDE, SIDE, 3), np.uint8) * 255

    unpacked = decode_sheet(encode_sheet(pixels, quality), pixels.shape)

    assert unpacked.shape == pixels.shape


def test_without_an_encoder_images_travel_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images whose encoder gives up are packed exactly."""

    def give_up(*_: object, **__: object) -> None:
        raise OSError("encoder error -2")

    monkeypatch.setattr(Image.Image, "save", give_up)

    assert pack_images(scenes(5), quality=80) == pack_images(scenes(5))
    with pytest.raises(ArrayError, match="cannot be encoded"):
        encode_sheet(scenes(5), 80)


@given(st.data())
def test_damaged_pictures_never_escape(data: st.DataObject) -> None:
    """Whatever bytes are altered, images of the claimed shape come out, or an ArrayError."""
    damaged = bytearray(PACKED.data)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        unpacked = unpack_images(msgspec.structs.replace(PACKED, data=bytes(damaged)))
    except ArrayError:
        return
    assert unpacked.shape == PACKED.shape
