"""Whatever happens to the chunks on their way, what was written in the end is the content."""

from hypothesis import given
from hypothesis import strategies as st
from tests.modular_pieces import make_blobs

from driftwell.edge.fetching import Fetching, Lack
from driftwell.edge.submodels import Part
from driftwell.messages.digest import digest_bytes

PIECE = "a" * 64


@given(
    content=st.binary(min_size=1, max_size=60),
    size=st.integers(1, 20),
    data=st.data(),
)
def test_chunks_in_any_order_with_losses_lead_to_the_content(
    content: bytes, size: int, data: st.DataObject
) -> None:
    """Each question is answered from where it is; chunks are lost, repeated and mixed up."""
    asked = Fetching(10.0)
    asked.begin(1, [Lack(Part(0, 0, 0, PIECE), 1000)])
    written = b""
    questions = 0
    while (begun := asked.beginning(PIECE)) is None or not begun.is_whole:
        (want,) = asked.ask(0.0)
        blobs = make_blobs(PIECE, content, offset=want.offset, size=size)
        questions += 1
        if questions < 5:  # then the link is a good one
            blobs = data.draw(st.lists(st.sampled_from(blobs), max_size=8))
        for blob in blobs:
            step = asked.take(blob, 0.0)
            if step is not None:
                written = step.data if step.is_new else written + step.data

    assert digest_bytes(written) == digest_bytes(content)
    assert questions <= 5
