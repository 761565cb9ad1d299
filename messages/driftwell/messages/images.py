"""Pure. Images on the wire: uint8 arrays of shape (N, H, W, C), packed with or without loss.

`x-zstd` stores each channel's plane as differences between horizontal neighbours
(modulo 256, the first column as it is) and compresses that with zstd. On natural 32x32
images this saves a quarter to a half; on pure noise next to nothing, and then the raw
bytes travel. Decoding is a cumulative sum, so it runs at memory speed.

`jpeg` gives up exact pixels for a fraction of the bytes, at a quality the sender chooses.
"""

import math
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from driftwell.messages.contact_sheet import decode_sheet, encode_sheet, sheet_size
from driftwell.messages.errors import ArrayError
from driftwell.messages.frames import unpack_frame

ZSTD_LEVEL: Final = 3
MAX_QUALITY: Final = 95  # what JPEG adds above it is bytes, hardly nearness
MAX_UNPACKED: Final = 256 * 1024 * 1024  # bytes of pixels in one message, packed or not

Pixels = NDArray[np.uint8]
Extent = Annotated[int, msgspec.Meta(ge=1)]


class PackedImages(msgspec.Struct, frozen=True, kw_only=True):
    """N images of one size as they travel."""

    encoding: Literal["jpeg", "raw", "x-zstd"]
    shape: tuple[Extent, Extent, Extent, Extent]  # N, H, W, C
    data: bytes


def pack_images(images: Pixels, *, quality: int | None = None) -> PackedImages:
    """Pack uint8 images of shape (N, H, W, C), N >= 1.

    Args:
        images: What to pack.
        quality: 1 to 95: JPEG of that quality, where the images have one or three channels,
            can be encoded so, and are smaller than packed without loss; None: without loss.

    Raises:
        ArrayError: if dtype, shape or quality are others.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:  # noqa: PLR2004
        raise ArrayError(f"images must be uint8 (N, H, W, C), not {images.dtype} {images.shape}")
    exact = _pack_exactly(images)
    if quality is None:
        return exact
    if not 1 <= quality <= MAX_QUALITY:
        raise ArrayError(f"the quality of images is 1 to {MAX_QUALITY}, not {quality}")
    if sheet_size(exact.shape) is None:
        return exact
    try:
        sheet = encode_sheet(images, quality)
    except ArrayError:
        return exact
    if len(sheet) >= len(exact.data):
        return exact
    return PackedImages(encoding="jpeg", shape=exact.shape, data=sheet)


def _pack_exactly(images: Pixels) -> PackedImages:
    count, height, width, channels = images.shape
    shape = (count, height, width, channels)
    planes = np.ascontiguousarray(images.transpose(3, 0, 1, 2))  # (C, N, H, W)
    differences = planes.copy()
    differences[..., 1:] -= planes[..., :-1]
    packed = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(differences.tobytes())
    if len(packed) < images.size:
        return PackedImages(encoding="x-zstd", shape=shape, data=packed)
    return PackedImages(encoding="raw", shape=shape, data=images.tobytes())


def unpack_images(packed: PackedImages) -> Pixels:
    """Give the images back as uint8 (N, H, W, C); every pixel as it was, except from `jpeg`.

    Raises:
        ArrayError: if the bytes do not unpack to exactly what the shape demands.
    """
    demanded = math.prod(packed.shape)
    if demanded > MAX_UNPACKED:
        raise ArrayError(f"images of shape {packed.shape} are over {MAX_UNPACKED} bytes")
    if packed.encoding == "raw":
        if len(packed.data) != demanded:
            raise ArrayError(
                f"images of shape {packed.shape} take {demanded} bytes, {len(packed.data)} came"
            )
        return np.frombuffer(packed.data, dtype=np.uint8).reshape(packed.shape)
    if packed.encoding == "jpeg":
        return decode_sheet(packed.data, packed.shape)
    content = unpack_frame(packed.data, demanded, what="packed images")
    planes = np.frombuffer(content, dtype=np.uint8)
    count, height, width, channels = packed.shape
    planes = planes.reshape(channels, count, height, width)
    summed = np.cumsum(planes, axis=-1, dtype=np.uint8)
    return np.ascontiguousarray(summed.transpose(1, 2, 3, 0))
