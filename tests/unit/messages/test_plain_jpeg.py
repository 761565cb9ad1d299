"""The only form of picture that travels; every other one is refused before it is decoded."""

import io
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from driftwell.messages import PackedImages, unpack_images
from driftwell.messages.contact_sheet import MAX_SHEET_PIXELS, encode_sheet
from driftwell.messages.errors import ArrayError
from driftwell.messages.plain_jpeg import check_plain_jpeg

SIZE: Final = (40, 24)
PIXELS: Final = np.random.default_rng(0).integers(0, 256, (1, 24, 40, 3), np.uint8)
PLAIN: Final = encode_sheet(PIXELS, 80)
GREY: Final = encode_sheet(PIXELS[..., :1], 80)
PACKED: Final = PackedImages(encoding="jpeg", shape=(1, 24, 40, 3), data=PLAIN)


def saved(kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    """A picture of the right size, as Pillow writes it."""
    file = io.BytesIO()
    picture = Image.fromarray(PIXELS[0]).convert(mode)
    picture.save(file, kind, **({"subsampling": 0} | options if kind == "JPEG" else options))
    return file.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def behind_start(extra: bytes) -> bytes:
    return PLAIN[:2] + extra + PLAIN[2:]


def behind_jfif(extra: bytes) -> bytes:
    return PLAIN[:20] + extra + PLAIN[20:]


def multi_picture() -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(PIXELS[0])
    picture.save(file, "MPO", save_all=True, append_images=[picture], subsampling=0)
    return file.getvalue()


def test_a_plain_picture_is_accepted() -> None:
    """What the encoder writes is the form, in colour and grey; so are other Huffman tables."""
    check_plain_jpeg(PLAIN, SIZE, 3)
    check_plain_jpeg(GREY, SIZE, 1)
    check_plain_jpeg(saved(optimize=True), SIZE, 3)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda: saved(progressive=True), id="progressive"),
        pytest.param(lambda: saved(subsampling=2), id="half chroma"),
        pytest.param(lambda: saved(mode="CMYK"), id="four channels"),
        pytest.param(lambda: saved(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"), id="metadata"),
        pytest.param(lambda: saved(icc_profile=b"profile"), id="colours"),
        pytest.param(lambda: saved(comment=b"x"), id="comment"),
        pytest.param(lambda: saved(restart_marker_rows=1), id="restart markers"),
        pytest.param(lambda: saved(keep_rgb=True), id="no luminance"),
        pytest.param(multi_picture, id="several pictures"),
        pytest.param(lambda: saved("PNG"), id="png"),
        pytest.param(lambda: GREY, id="grey"),
        pytest.param(lambda: behind_start(segment(0xDB, b"")), id="JFIF not first"),
        pytest.param(lambda: behind_jfif(PLAIN[2:20]), id="JFIF twice"),
        pytest.param(lambda: behind_jfif(b"\xff"), id="fill byte"),
        pytest.param(lambda: behind_jfif(b"\xff\xdb\0\1"), id="length below two"),
        pytest.param(lambda: PLAIN[:2] + PLAIN[20:], id="no JFIF"),
        pytest.param(lambda: PLAIN.replace(b"JFIF", b"JFXX"), id="other APP0"),
        pytest.param(lambda: PLAIN[:-2] + PLAIN[PLAIN.index(b"\xff\xda") :], id="two scans"),
        pytest.param(lambda: PLAIN + b"\0", id="a byte behind"),
        pytest.param(lambda: PLAIN + PLAIN, id="a picture behind"),
        pytest.param(lambda: b"\xff\xd8\xff\xd9", id="nothing"),
    ],
)
def test_other_forms_are_refused(form: Callable[[], bytes]) -> None:
    """What could hold more, or mean other colours, never comes to a decoder."""
    with pytest.raises(ArrayError):
        check_plain_jpeg(form(), SIZE, 3)


@pytest.mark.parametrize("size", [(24, 40), (40, 32), (48, 24), (0, 0)])
def test_another_size_is_refused(size: tuple[int, int]) -> None:
    """The header tells the very size that is demanded."""
    with pytest.raises(ArrayError, match="not a picture of"):
        check_plain_jpeg(PLAIN, size, 3)


def test_a_frame_sampled_otherwise_is_refused() -> None:
    """Component numbers and sampling factors have one value each; the size is told first."""
    at = PLAIN.index(b"\xff\xc0") + 10
    for offset in (0, 1, 3, 4, 7):
        damaged = bytearray(PLAIN)
        damaged[at + offset] ^= 0x30
        with pytest.raises(ArrayError, match="sampled otherwise"):
            check_plain_jpeg(bytes(damaged), SIZE, 3)


def test_a_small_file_of_a_huge_picture_is_refused() -> None:
    """What the header claims is compared before a decoder allocates."""
    at = PLAIN.index(b"\xff\xc0") + 5
    data = PLAIN[:at] + b"\xff\xd8\xff\xd8" + PLAIN[at + 4 :]
    for shape in ((1, 24, 40, 3), (1, 65_496, 65_496, 3)):
        with pytest.raises(ArrayError):
            unpack_images(PackedImages(encoding="jpeg", shape=shape, data=data))

    assert MAX_SHEET_PIXELS < 65_496**2


def test_a_picture_cut_short_is_refused() -> None:
    """Every proper prefix is refused, and so is one cut in its segments and then ended."""
    scan = PLAIN.index(b"\xff\xda")
    for length in range(len(PLAIN)):
        with pytest.raises(ArrayError):
            unpack_images(msgspec.structs.replace(PACKED, data=PLAIN[:length]))
    for length in range(scan):
        with pytest.raises(ArrayError):
            unpack_images(msgspec.structs.replace(PACKED, data=PLAIN[:length] + b"\xff\xd9"))


def test_tables_that_are_none_do_not_decode() -> None:
    """Behind the right form a decoder's error is ours."""
    at = PLAIN.index(b"\xff\xc4")
    data = PLAIN[: at + 5] + b"\xfe" * 16 + PLAIN[at + 21 :]
    check_plain_jpeg(data, SIZE, 3)

    with pytest.raises(ArrayError, match="do not decode"):
        unpack_images(msgspec.structs.replace(PACKED, data=data))


@given(st.binary(max_size=60), st.booleans())
def test_arbitrary_pictures_never_escape(content: bytes, plausible: bool) -> None:
    """Any bytes, behind a right header too, give images of the shape, or an ArrayError."""
    if plausible:
        start = PLAIN.index(b"\xff\xda") + 14
        content = PLAIN[:start] + content.replace(b"\xff", b"\xff\0") + b"\xff\xd9"
    try:
        unpacked = unpack_images(msgspec.structs.replace(PACKED, data=content))
    except ArrayError:
        return
    assert unpacked.shape == PACKED.shape
