"""Pure. N images as one JPEG picture and back, with loss: a contact sheet.

One picture of many images costs less than many pictures: headers and tables are paid once.
Chroma keeps its full resolution. A coding that halves it, as lossy WebP always does, takes
away noise that a model on a noisy camera has to learn. Each image begins at a multiple of
eight pixels, where JPEG's blocks begin, so no image leaves traces in its neighbour.
"""

import io
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from driftwell.messages.errors import ArrayError
from driftwell.messages.plain_jpeg import check_plain_jpeg

MAX_SHEET_SIDE: Final = 65_500
"""Pixels of the width, and of the height, that libjpeg takes."""
MAX_SHEET_PIXELS: Final = 2**24
"""Decoding takes some 15 bytes of memory for each, however few bytes the picture has."""
BLOCK: Final = 8  # pixels of a JPEG block's side

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int, int]


def sheet_size(shape: Shape) -> tuple[int, int] | None:
    """Width and height in pixels of the sheet for images (N, H, W, C), each extent 1 and up.

    `ceil(sqrt(N))` columns, and as many rows as that takes; each place is H and W rounded up to
    multiples of 8. None if there is no such sheet: C is neither 1 nor 3, a side is over 65500
    pixels, or all of it over 2^24.
    """
    count, height, width, channels = shape
    columns = _columns(count)
    size = columns * _whole(width), -(-count // columns) * _whole(height)
    if channels not in {1, 3} or max(size) > MAX_SHEET_SIDE or math.prod(size) > MAX_SHEET_PIXELS:
        return None
    return size


def encode_sheet(images: Pixels, quality: int) -> bytes:
    """Encode uint8 images (N, H, W, C) that have a sheet; `quality` is 1 to 95.

    The images lie row by row; the places left over repeat the last one. Each image is padded
    to its place by its last row and column. One channel is encoded as grey.

    Raises:
        ArrayError: if the encoder gives up.
    """
    count, height, width, channels = images.shape
    columns = _columns(count)
    rows = -(-count // columns)
    padding = (0, rows * columns - count), (0, -height % BLOCK), (0, -width % BLOCK), (0, 0)
    tiles = np.pad(images, padding, mode="edge")
    grid = tiles.reshape(rows, columns, *tiles.shape[1:])
    sheet = grid.transpose(0, 2, 1, 3, 4).reshape(
        rows * _whole(height), columns * _whole(width), channels
    )
    picture = Image.fromarray(sheet if channels > 1 else sheet[..., 0])
    file = io.BytesIO()
    try:
        # No `optimize`: Pillow's buffer for it is too small for noisy sheets.
        picture.save(file, "JPEG", quality=quality, subsampling=0)
    except (OSError, ValueError) as error:
        raise ArrayError(f"images cannot be encoded as JPEG: {error}") from error
    return file.getvalue()


def decode_sheet(data: bytes, shape: Shape) -> Pixels:
    """Give images (N, H, W, C) back, near to what they were.

    Raises:
        ArrayError: if the shape has no sheet, or the bytes are not exactly one plain picture of
            the sheet's size (`plain_jpeg`).
    """
    size = sheet_size(shape)
    if size is None:
        raise ArrayError(f"images of shape {shape} do not travel as JPEG")
    count, height, width, channels = shape
    check_plain_jpeg(data, size, channels)
    # Damaged pictures raise errors of many kinds, by Pillow's release. What they have in
    # common is that the bytes are wrong.
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            sheet = np.asarray(picture)
    except Exception as error:
        raise ArrayError(f"packed images do not decode: {error}") from error
    if sheet.shape != (size[1], size[0], 3)[: 2 if channels == 1 else 3]:
        raise ArrayError(f"packed images decode to {sheet.shape}, not to {size} pixels")
    grid = sheet.reshape(-1, _whole(height), _columns(count), _whole(width), channels)
    tiles = grid[:, :height, :, :width].transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(tiles.reshape(-1, height, width, channels)[:count])


def _columns(count: int) -> int:
    return math.isqrt(count - 1) + 1


def _whole(side: int) -> int:
    return side + -side % BLOCK
