"""Images: packed without loss, unpacked only to exactly what they claim."""

import struct

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.array_strategies import images
from tests.golden.fixed_messages import PIXELS, SAMPLES
from tests.unit.messages.tampering import payload_with

from driftwell.messages import PackedImages, decode, pack_images, unpack_images
from driftwell.messages.errors import ArrayError, MalformedError
from driftwell.messages.images import MAX_UNPACKED

PACKED = pack_images(PIXELS)


def compressed(content: bytes) -> bytes:
    """A zstd frame that tells the size of its content."""
    return zstandard.ZstdCompressor().compress(content)


def unpack_by_the_book(packed: PackedImages) -> NDArray[np.uint8]:
    """The decoder of the specification, byte by byte: what a device without numpy runs."""
    count, height, width, channels = packed.shape
    planes = zstandard.ZstdDecompressor().decompress(packed.data)
    pixels = bytearray(len(planes))
    at = 0
    for c in range(channels):
        for n in range(count):
            for y in range(height):
                value = 0
                for x in range(width):
                    value = (value + planes[at]) % 256
                    pixels[((n * height + y) * width + x) * channels + c] = value
                    at += 1
    return np.frombuffer(bytes(pixels), np.uint8).reshape(packed.shape)


@given(images())
def test_every_pixel_comes_back(pixels: NDArray[np.uint8]) -> None:
    """Any uint8 images of any size are the same after packing and unpacking."""
    unpacked = unpack_images(pack_images(pixels))

    assert unpacked.dtype == np.uint8
    np.testing.assert_array_equal(pixels, unpacked)


@given(images())
def test_images_that_are_not_contiguous_come_back(pixels: NDArray[np.uint8]) -> None:
    """A view in another memory order is packed by what it shows, not by where it lies."""
    turned = pixels.transpose(0, 2, 1, 3)[:, ::-1]

    np.testing.assert_array_equal(turned, unpack_images(pack_images(turned)))


@given(images())
def test_packing_never_makes_larger(pixels: NDArray[np.uint8]) -> None:
    """Where compression does not pay, the raw bytes travel."""
    packed = pack_images(pixels)

    assert packed.shape == pixels.shape
    if packed.encoding == "raw":
        assert packed.data == pixels.tobytes()
    else:
        assert len(packed.data) < pixels.size


def test_smooth_images_shrink_and_noise_does_not() -> None:
    """A ramp is compressed to a fraction; random pixels are left as they are."""
    ramp = np.tile(np.arange(32, dtype=np.uint8).reshape(1, 1, 32, 1), (4, 32, 1, 3))
    noise = np.random.default_rng(0).integers(0, 256, ramp.shape, dtype=np.uint8)

    assert len(pack_images(ramp).data) < ramp.size / 20
    assert pack_images(noise).encoding == "raw"


@given(images().map(lambda pixels: np.tile(pixels, (1, 4, 4, 1))))
def test_a_decoder_written_from_the_specification_agrees(pixels: NDArray[np.uint8]) -> None:
    """The few loops that the specification describes give the same pixels."""
    packed = pack_images(pixels)
    if packed.encoding == "x-zstd":
        np.testing.assert_array_equal(pixels, unpack_by_the_book(packed))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 2, 2, 3), np.float32),
        np.zeros((1, 2, 2, 3), np.int8),
        np.zeros((2, 2, 3), np.uint8),
        np.zeros((1, 1, 2, 2, 3), np.uint8),
        np.zeros((0, 2, 2, 3), np.uint8),
        np.zeros((1, 2, 0, 3), np.uint8),
    ],
)
def test_what_is_not_images_is_not_packed(wrong: NDArray[np.uint8]) -> None:
    """Another dtype, another number of dimensions or an empty array is refused."""
    with pytest.raises(ArrayError, match="uint8"):
        pack_images(wrong)


@pytest.mark.parametrize("size", [0, 15, 17, 1000])
def test_raw_pixels_of_a_wrong_length_are_refused(size: int) -> None:
    """Raw bytes must be as many as the shape demands."""
    with pytest.raises(ArrayError, match="take 16 bytes"):
        unpack_images(PackedImages(encoding="raw", shape=(1, 4, 4, 1), data=b"\0" * size))


@pytest.mark.parametrize("size", [0, 15, 17, 50_000_000])
def test_a_frame_that_declares_another_size_is_refused(size: int) -> None:
    """A compressed frame of too little or, a bomb, far too much is not even started on."""
    bomb = PackedImages(encoding="x-zstd", shape=(1, 4, 4, 1), data=compressed(b"\0" * size))

    with pytest.raises(ArrayError, match=f"hold {size} bytes, their shape takes 16"):
        unpack_images(bomb)


def frame_by_hand(claimed: int, *runs: int) -> bytes:
    """A zstd frame that claims `claimed` bytes and holds runs of zeros: a block header each."""
    last = len(runs) - 1
    blocks = (
        (run << 3 | 1 << 1 | (number == last)).to_bytes(3, "little") + b"\0"
        for number, run in enumerate(runs)
    )
    return struct.pack("<IBB", zstandard.MAGIC_NUMBER, 0x20, claimed) + b"".join(blocks)


@pytest.mark.parametrize("runs", [(15,), (17,), (16, 1), (16, 16), (100_000,), (16,) * 1000])
def test_a_frame_that_lies_about_its_size_is_refused(runs: tuple[int, ...]) -> None:
    """A frame whose header claims the right size and whose content is another is refused."""
    honest = PackedImages(encoding="x-zstd", shape=(1, 4, 4, 1), data=frame_by_hand(16, 16))
    assert unpack_images(honest).tolist() == np.zeros((1, 4, 4, 1)).tolist()

    with pytest.raises(ArrayError, match="do not decompress"):
        unpack_images(msgspec.structs.replace(honest, data=frame_by_hand(16, *runs)))


def test_a_frame_without_a_size_is_refused() -> None:
    """A frame that keeps its size to itself is refused, right as its content may be."""
    data = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * 16)

    with pytest.raises(ArrayError, match="their shape takes 16"):
        unpack_images(PackedImages(encoding="x-zstd", shape=(1, 4, 4, 1), data=data))


@pytest.mark.parametrize("tail", [b"\0", compressed(b"\0" * 16)])
def test_bytes_after_the_frame_are_refused(tail: bytes) -> None:
    """One frame is one message: neither rubbish nor a second frame may follow."""
    with pytest.raises(ArrayError, match="do not decompress"):
        unpack_images(msgspec.structs.replace(PACKED, data=PACKED.data + tail))


def test_a_frame_cut_short_is_refused() -> None:
    """Every proper prefix of a compressed frame is refused."""
    assert PACKED.encoding == "x-zstd"
    for length in range(len(PACKED.data)):
        with pytest.raises(ArrayError):
            unpack_images(msgspec.structs.replace(PACKED, data=PACKED.data[:length]))


@given(st.binary(max_size=100), st.sampled_from(["raw", "x-zstd"]))
def test_arbitrary_data_never_escapes(data: bytes, encoding: str) -> None:
    """Whatever the bytes, images of the claimed shape come out, or an ArrayError."""
    packed = msgspec.convert({"encoding": encoding, "shape": (1, 2, 3, 4), "data": data},
                             PackedImages)  # fmt: skip
    try:
        unpacked = unpack_images(packed)
    except ArrayError:
        return
    assert unpacked.shape == (1, 2, 3, 4)


@pytest.mark.parametrize("encoding", ["raw", "x-zstd"])
def test_more_pixels_than_the_limit_are_refused_first(encoding: str) -> None:
    """A shape over the limit is refused before its data is looked at."""
    shape = [1, 1, 1, MAX_UNPACKED + 1]
    packed = msgspec.convert({"encoding": encoding, "shape": shape, "data": b""}, PackedImages)

    with pytest.raises(ArrayError, match="are over"):
        unpack_images(packed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("images.encoding", "x-gzip"),
        ("images.shape", [0, 8, 8, 3]),
        ("images.shape", [8, 8, 3]),
        ("images.shape", [1, 2, 8, 8, 3]),
        ("images.shape", [2, 8, 8, -3]),
        ("images.data", "text"),
        ("images", None),
    ],
)
def test_images_out_of_bounds_are_malformed(field: str, value: object) -> None:
    """Another encoding or another number of extents is refused when the message is decoded."""
    with pytest.raises(MalformedError):
        decode(payload_with(SAMPLES, field, value))
