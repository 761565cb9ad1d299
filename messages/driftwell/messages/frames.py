"""Pure. Opens one zstd frame to exactly the bytes that are demanded, or refuses it."""

import zstandard

from driftwell.messages.errors import ArrayError


def unpack_frame(data: bytes, demanded: int, *, what: str) -> bytes:
    """Give the content of one zstd frame, `demanded` bytes (1 and up).

    Raises:
        ArrayError: if the frame declares another size or none, does not decompress to that
            size, or something follows it; `what` names the frame in the text, in the plural.
    """
    # The frame's own claim of its size is checked first: a small "bomb" must not
    # make us allocate more than the demand, already bounded, allows.
    try:
        declared = zstandard.frame_content_size(data)
        if declared != demanded:
            raise ArrayError(f"{what} hold {declared} bytes, their shape takes {demanded}")
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ArrayError(f"{what} do not decompress: {error}") from error
