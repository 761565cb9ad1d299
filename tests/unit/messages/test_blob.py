"""Contents of pieces: whole or as differences, in chunks, and never another piece than promised."""

import msgspec
import numpy as np
import pytest

from driftwell.messages import RefusalCode, WireError, digest_arrays, encode_delta
from driftwell.messages.arrays import pack_arrays
from driftwell.messages.blob import (
    CHUNK_BYTES,
    Arrays,
    Content,
    chunks,
    decode_content,
    encode_steps,
    encode_whole,
    in_order,
)

OLD = {
    "second.weight": np.array([[1.5], [-2.0]], np.float32),
    "first.weight": np.array([[0.25, 0.5]], np.float32),
}
NEW = {
    "first.weight": np.array([[0.5, 0.5]], np.float32),
    "second.weight": np.array([[1.5], [-1.0]], np.float32),
}


def code_of(encoded: bytes, *, piece: str, base: Arrays | None = None) -> RefusalCode:
    with pytest.raises(WireError) as refused:
        decode_content(encoded, piece=piece, base=base)
    return refused.value.code


def test_a_whole_piece_comes_out_as_it_went_in() -> None:
    """A content of arrays gives exactly these arrays, in the order of their names."""
    arrays = decode_content(encode_whole(OLD), piece=digest_arrays(OLD), base=None)

    assert list(arrays) == ["first.weight", "second.weight"]
    assert digest_arrays(arrays) == digest_arrays(OLD)


def test_differences_lead_from_piece_to_piece() -> None:
    """Two differences, one after the other, lead from an old piece to the newest."""
    middle = {name: np.asarray((OLD[name] + NEW[name]) / 2, np.float32) for name in NEW}
    steps = (
        encode_delta(in_order(OLD), middle),
        encode_delta(middle, in_order(NEW)),
    )

    arrays = decode_content(encode_steps(steps), piece=digest_arrays(NEW), base=OLD)

    assert digest_arrays(arrays) == digest_arrays(NEW)


def test_chunks_join_to_the_content() -> None:
    """Chunks fit a message, and from any offset on they are the rest of the content."""
    content = bytes(range(256)) * 1000

    cut = list(chunks(content, offset=CHUNK_BYTES))

    assert b"".join(data for _, data in cut) == content[CHUNK_BYTES:]
    assert max(len(data) for _, data in cut) == CHUNK_BYTES
    assert [offset for offset, _ in cut] == list(range(CHUNK_BYTES, len(content), CHUNK_BYTES))


@pytest.mark.parametrize(
    ("encoded", "base", "code"),
    [
        (encode_whole(NEW), None, RefusalCode.WRONG_RESULT),
        (b"\xc1", None, RefusalCode.MALFORMED),
        (encode_whole(OLD)[:-1], None, RefusalCode.MALFORMED),
        (encode_whole(OLD), OLD, RefusalCode.BAD_ARRAY),
        (encode_steps((encode_delta(in_order(NEW), in_order(OLD)),)), None, RefusalCode.BAD_ARRAY),
        (
            encode_steps((encode_delta(in_order(NEW), in_order(OLD)),)),
            {"first.weight": NEW["first.weight"]},
            RefusalCode.BAD_ARRAY,
        ),
        (encode_whole({"first.weight": np.array([np.nan], np.float32)}), None,
         RefusalCode.NOT_FINITE),
        (
            msgspec.msgpack.encode(Content(arrays=pack_arrays({"a": np.zeros(2, np.int64)}))),
            None,
            RefusalCode.BAD_ARRAY,
        ),
    ],
)  # fmt: skip
def test_a_content_that_is_not_the_piece_is_refused(
    encoded: bytes, base: Arrays | None, code: RefusalCode
) -> None:
    """Altered, cut short, of other arrays or without the piece it starts from: a code for each."""
    assert code_of(encoded, piece=digest_arrays(OLD), base=base) == code
