"""Images with loss: one WebP picture of all, decoded only to exactly what the shape demands."""

import io
from typing import Final, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.array_strategies import images

from driftwell.messages import PackedImages, pack_images, unpack_images
from driftwell.messages.contact_sheet import MAX_SHEET_PIXELS, encode_sheet, sheet_size
from driftwell.messages.errors import ArrayError

Pixels = NDArray[np.uint8]
SIDE: Final = 32


def scenes(count: int, channels: int = 3) -> Pixels:
    """Smooth images with a little noise, each of another colour."""
    draw = np.random.default_rng(count)
    ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE))[None, :, :, None] * 2.0
    colour = draw.integers(0, 100, (count, 1, 1, channels))
    noise = draw.normal(0, 6, (count, SIDE, SIDE, channels))
    return np.clip(ramp + colour + noise, 0, 255).astype(np.uint8)


PACKED: Final = pack_images(scenes(5), quality=80)


def webp_of(mode: str, size: tuple[int, int], **options: object) -> bytes:
    """A WebP file as Pillow writes it."""
    file = io.BytesIO()
    Image.new(mode, size, "green").save(file, "WEBP", **options)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 10, 64])
def test_images_come_back_nearly_as_they_were(count: int, channels: int) -> None:
    """Every image is in its place again, in less than half the bytes of packing without loss."""
    pixels = scenes(count, channels)

    packed = pack_images(pixels, quality=80)
    unpacked = unpack_images(packed)

    assert packed.encoding == "webp"
    assert len(packed.data) < len(pack_images(pixels).data) / 2
    assert unpacked.shape == pixels.shape
    assert unpacked.dtype == np.uint8
    distance = np.abs(unpacked.astype(int) - pixels).mean(axis=(1, 2, 3))
    assert distance.max() < 8


def test_a_higher_quality_is_nearer_and_larger() -> None:
    """Quality orders both bytes and errors."""
    pixels = scenes(16)
    packed = [pack_images(pixels, quality=quality) for quality in (1, 50, 90)]

    errors = [float(np.abs(unpack_images(one).astype(int) - pixels).mean()) for one in packed]

    assert sorted(len(one.data) for one in packed) == [len(one.data) for one in packed]
    assert sorted(errors, reverse=True) == errors


def test_no_quality_is_without_loss() -> None:
    """Without a quality every pixel comes back."""
    pixels = scenes(5)

    np.testing.assert_array_equal(pixels, unpack_images(pack_images(pixels, quality=None)))


@given(images(), st.integers(1, 100))
def test_loss_is_never_larger_than_none(pixels: Pixels, quality: int) -> None:
    """Any images at any quality unpack to their shape, in at most the bytes without loss."""
    exact = pack_images(pixels)

    packed = pack_images(pixels, quality=quality)

    assert len(packed.data) <= len(exact.data)
    assert unpack_images(packed).shape == pixels.shape
    if packed.encoding != "webp":
        assert packed == exact


@pytest.mark.parametrize(
    "shape", [(9, 64, 64, 2), (9, 64, 64, 4), (1, 1, 16_384, 3), (1, 16_384, 1, 1)]
)
def test_what_webp_cannot_hold_travels_without_loss(shape: tuple[int, int, int, int]) -> None:
    """Other numbers of channels and longer sides are packed exactly."""
    pixels = np.random.default_rng(0).integers(0, 4, shape, np.uint8)

    assert pack_images(pixels, quality=10) == pack_images(pixels)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 2, 3, 3), (3, 2)),
        ((2, 2, 3, 3), (6, 2)),
        ((3, 2, 3, 1), (6, 4)),
        ((4, 2, 3, 1), (6, 4)),
        ((5, 2, 3, 3), (9, 4)),
        ((1, 1, 16_383, 3), (16_383, 1)),
        ((1, 4096, 4096, 3), (4096, 4096)),
        ((1, 4096, 4097, 3), None),
        ((2**40, 1, 1, 3), None),
    ],
)
def test_the_sheet_is_as_square_as_it_can_be(
    shape: tuple[int, int, int, int], size: tuple[int, int] | None
) -> None:
    """ceil(sqrt(N)) columns, as many rows as needed, and a bound on sides and pixels."""
    assert sheet_size(shape) == size


@pytest.mark.parametrize("quality", [-1, 0, 101])
def test_another_quality_is_refused(quality: int) -> None:
    """Quality is 1 to 100."""
    with pytest.raises(ArrayError, match="quality"):
        pack_images(scenes(1), quality=quality)


@pytest.mark.parametrize(
    "shape",
    [(5, SIDE, SIDE, 1), (6, SIDE, SIDE, 3), (2, SIDE, SIDE, 3), (5, SIDE, 33, 3), (5, 31, SIDE, 3),
     (5, SIDE, SIDE, 4), (1, 1, 2**27, 1), (2**27, 1, 1, 1)],
)  # fmt: skip
def test_another_shape_than_the_picture_is_refused(shape: tuple[int, int, int, int]) -> None:
    """The picture has the size that the shape demands; more of its places may be used."""
    packed = msgspec.structs.replace(PACKED, shape=shape)
    if sheet_size(shape) == sheet_size(PACKED.shape):
        assert unpack_images(packed).shape == shape
        return

    with pytest.raises(ArrayError):
        unpack_images(packed)


def in_other_form(form: Literal["lossless", "alpha", "animated", "metadata", "png"]) -> bytes:
    """A picture of the right size that is not a plain lossy one."""
    size = sheet_size(PACKED.shape)
    assert size is not None
    match form:
        case "lossless":
            return webp_of("RGB", size, lossless=True)
        case "alpha":
            file = io.BytesIO()
            Image.new("RGBA", size, (1, 2, 3, 4)).save(file, "WEBP")
            return file.getvalue()
        case "animated":
            other = Image.new("RGB", size, "red")
            return webp_of("RGB", size, save_all=True, append_images=[other], duration=10)
        case "metadata":
            return webp_of("RGB", size, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
        case "png":
            file = io.BytesIO()
            Image.new("RGB", size).save(file, "PNG")
            return file.getvalue()


@pytest.mark.parametrize("form", ["lossless", "alpha", "animated", "metadata", "png"])
def test_other_forms_of_picture_are_refused(
    form: Literal["lossless", "alpha", "animated", "metadata", "png"],
) -> None:
    """Animation, transparency, metadata and other formats never come to a decoder."""
    with pytest.raises(ArrayError, match="plain lossy WebP"):
        unpack_images(msgspec.structs.replace(PACKED, data=in_other_form(form)))


def test_a_small_file_of_a_huge_picture_is_refused() -> None:
    """What the header claims is compared before a canvas is allocated."""
    data = bytearray(PACKED.data)
    data[26:30] = b"\xff\x3f\xff\x3f"
    for shape in ((5, SIDE, SIDE, 3), (1, 16_383, 16_383, 3)):
        with pytest.raises(ArrayError):
            unpack_images(PackedImages(encoding="webp", shape=shape, data=bytes(data)))

    assert MAX_SHEET_PIXELS < 16_383**2


@pytest.mark.parametrize("tail", [b"\0", b"\0\0", PACKED.data])
def test_bytes_after_the_picture_are_refused(tail: bytes) -> None:
    """The container ends where the data ends."""
    with pytest.raises(ArrayError, match="header tells others"):
        unpack_images(msgspec.structs.replace(PACKED, data=PACKED.data + tail))


def test_a_picture_cut_short_is_refused() -> None:
    """Every proper prefix is refused, and so is one whose header agrees with it."""
    for length in range(len(PACKED.data)):
        cut = PACKED.data[:length]
        with pytest.raises(ArrayError):
            unpack_images(msgspec.structs.replace(PACKED, data=cut))
    half = PACKED.data[20 : 20 + len(PACKED.data) // 4 * 2]
    honest = b"RIFF" + (len(half) + 12).to_bytes(4, "little") + b"WEBPVP8 "
    with pytest.raises(ArrayError, match="do not decode"):
        unpack_images(
            msgspec.structs.replace(PACKED, data=honest + len(half).to_bytes(4, "little") + half)
        )


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


@given(st.binary(max_size=60), st.booleans())
def test_arbitrary_pictures_never_escape(content: bytes, plausible: bool) -> None:
    """Any bytes, behind a right header too, give images of the shape, or an ArrayError."""
    if plausible:
        head = bytearray(encode_sheet(scenes(1), 80)[:30])
        head[16:20] = (len(content) + 10).to_bytes(4, "little")
        head[4:8] = (len(content) + 22).to_bytes(4, "little")
        content = bytes(head) + content
    try:
        unpacked = unpack_images(
            PackedImages(encoding="webp", shape=(1, SIDE, SIDE, 3), data=content)
        )
    except ArrayError:
        return
    assert unpacked.shape == (1, SIDE, SIDE, 3)
