"""Pure. N images as one WebP picture and back, with loss: a contact sheet.

Cameras' neighbouring images are alike, so one picture of many costs less than many pictures:
headers are paid once, and the coder learns its probabilities once.
"""

import io
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from driftwell.messages.errors import ArrayError

MAX_SHEET_SIDE: Final = 16_383
"""Pixels of a WebP picture's width, and of its height."""
MAX_SHEET_PIXELS: Final = 2**24
"""Decoding takes some 20 bytes of memory for each, however few bytes the picture has."""
HEADER_BYTES: Final = 30
EFFORT: Final = 4  # libwebp's method: 6 takes twice the time for one or two percent

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int, int]


def sheet_size(shape: Shape) -> tuple[int, int] | None:
    """Width and height in pixels of the sheet for images (N, H, W, C), each extent 1 and up.

    `ceil(sqrt(N))` columns, and as many rows as that takes. None if there is no such sheet: C
    is neither 1 nor 3, a side is over 16383 pixels, or all of it over 2^24.
    """
    count, height, width, channels = shape
    columns = _columns(count)
    size = columns * width, -(-count // columns) * height
    if channels not in {1, 3} or max(size) > MAX_SHEET_SIDE or math.prod(size) > MAX_SHEET_PIXELS:
        return None
    return size


def encode_sheet(images: Pixels, quality: int) -> bytes:
    """Encode uint8 images (N, H, W, C) that have a sheet; `quality` is 1 to 100.

    The images lie row by row; the places left over repeat the last one. One channel is
    encoded as grey.

    Raises:
        ArrayError: if the encoder gives up.
    """
    count, height, width, channels = images.shape
    columns = _columns(count)
    rows = -(-count // columns)
    places = np.minimum(np.arange(rows * columns), count - 1)
    grid = images[places].reshape(rows, columns, height, width, channels)
    sheet = grid.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    colours = np.ascontiguousarray(np.broadcast_to(sheet, (*sheet.shape[:2], 3)))
    file = io.BytesIO()
    try:
        Image.fromarray(colours).save(file, "WEBP", quality=quality, method=EFFORT)
    except (OSError, ValueError) as error:
        raise ArrayError(f"images cannot be encoded as WebP: {error}") from error
    return file.getvalue()


def decode_sheet(data: bytes, shape: Shape) -> Pixels:
    """Give images (N, H, W, C) back, near to what they were.

    Raises:
        ArrayError: if the shape has no sheet, or the bytes are not exactly one lossy picture of
            the sheet's size, without animation, transparency or metadata.
    """
    size = sheet_size(shape)
    if size is None:
        raise ArrayError(f"images of shape {shape} do not travel as WebP")
    _check_header(data, size)
    # Damaged pictures raise errors of many kinds, by Pillow's release. What they have in
    # common is that the bytes are wrong.
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
            sheet = np.asarray(picture.convert("RGB"))
    except Exception as error:
        raise ArrayError(f"packed images do not decode: {error}") from error
    if sheet.shape != (size[1], size[0], 3):
        raise ArrayError(f"packed images decode to {sheet.shape}, not to {size} pixels")
    count, height, width, channels = shape
    columns = _columns(count)
    grid = sheet.reshape(-1, height, columns, width, 3)[..., :channels]
    images = grid.transpose(0, 2, 1, 3, 4).reshape(-1, height, width, channels)
    return np.ascontiguousarray(images[:count])


def _columns(count: int) -> int:
    return math.isqrt(count - 1) + 1


def _check_header(data: bytes, size: tuple[int, int]) -> None:
    # Before any decoder allocates a canvas: RIFF container, a single `VP8 ` chunk that fills
    # it, and a key frame of the size demanded (RFC 6386 section 9.1, RFC 9649 section 2.5).
    if len(data) < HEADER_BYTES or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8 ":
        raise ArrayError("packed images are not a plain lossy WebP picture")
    held = int.from_bytes(data[16:20], "little")
    told = int.from_bytes(data[4:8], "little")
    if not told + 8 == len(data) == 20 + held + held % 2:
        raise ArrayError(f"packed images are {len(data)} bytes, their header tells others")
    sides = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    if data[23:26] != b"\x9d\x01\x2a" or tuple(sides) != size:
        raise ArrayError(f"packed images are not a picture of {size[0]} x {size[1]} pixels")
