"""Pure. Whether bytes are one JPEG picture of the only form that travels, before any is decoded.

Progressive pictures may hold thousands of scans, each as dear as the whole picture, and metadata
may lead a decoder to other colours or other pictures. So there is one form: JFIF (ITU-T T.871)
without thumbnail, baseline (ITU-T T.81), one scan, chroma in full, nothing else.
"""

from typing import Final

from driftwell.messages.errors import ArrayError

START: Final = b"\xff\xd8"
END: Final = b"\xff\xd9"
JFIF: Final = 0xE0
JFIF_BYTES: Final = 14  # without a thumbnail
QUANTISATION: Final = 0xDB
HUFFMAN: Final = 0xC4
FRAME: Final = 0xC0  # of the baseline process
SCAN: Final = 0xDA
KNOWN: Final = frozenset({JFIF, QUANTISATION, HUFFMAN, FRAME, SCAN})


def check_plain_jpeg(data: bytes, size: tuple[int, int], channels: int) -> None:
    """Accept one plain picture of `size` (width, height) in pixels and 1 or 3 `channels`.

    What is compressed is not looked at.

    Raises:
        ArrayError: if the bytes are in another form, or the picture is of another size.
    """
    markers, bodies, scan = _split(data)
    jfif, frame = bodies.get(JFIF, b""), bodies.get(FRAME, b"")
    once = markers[0] == JFIF and markers.count(JFIF) == markers.count(FRAME) == 1
    plain = once and KNOWN.issuperset(markers) and len(jfif) == JFIF_BYTES
    if not (plain and jfif.startswith(b"JFIF\0")):
        raise ArrayError("packed images are not a plain baseline JPEG picture")
    width, height = size
    # 8 bits a value, the sides, the number of components (T.81 section B.2.2).
    head = b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([channels])
    if frame[:6] != head:
        raise ArrayError(
            f"packed images are not a picture of {width} x {height} pixels, {channels} channels"
        )
    # Of each component: number, sampling factors of 1 and 1, quantisation table.
    numbers = bytes(range(1, channels + 1))
    if len(frame) != 6 + 3 * channels or (frame[6::3], frame[7::3]) != (
        numbers,
        b"\x11" * channels,
    ):
        raise ArrayError("packed images are a JPEG picture whose channels are sampled otherwise")
    # Among compressed bytes FF is followed by 00; anything else would be a further marker.
    if bodies[SCAN][:1] != head[5:] or scan.count(b"\xff") != scan.count(b"\xff\0"):
        raise ArrayError("packed images are not a JPEG picture of one scan")


def _split(data: bytes) -> tuple[list[int], dict[int, bytes], bytes]:
    # Markers in their order, the last body behind each, and the compressed bytes (T.81 B.1.1).
    if not (data.startswith(START) and data.endswith(END)):
        raise ArrayError("packed images are not a whole JPEG picture")
    markers: list[int] = []
    bodies: dict[int, bytes] = {}
    at, end = len(START), len(data) - len(END)
    while SCAN not in bodies:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        after = at + 2 + length
        if data[at] != START[0] or length < 2 or after > end:  # noqa: PLR2004
            raise ArrayError("packed images are a JPEG picture with damaged segments")
        markers.append(data[at + 1])
        bodies[data[at + 1]] = data[at + 4 : after]
        at = after
    return markers, bodies, data[at:end]
