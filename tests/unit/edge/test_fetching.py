"""When a device asks for pieces, and what becomes of the chunks that come."""

import pytest
from tests.modular_pieces import make_blobs

from driftwell.edge.fetching import LONGEST_RETRY_S, MAX_ASKED, Fetching, Lack, Step
from driftwell.edge.submodels import Part
from driftwell.messages.blob import Blob
from driftwell.messages.digest import digest_bytes
from driftwell.messages.errors import WireError

CONTENT = bytes(range(250))
RETRY_S = 10.0


def name(number: int) -> str:
    return f"{number:064x}"


def fetching(*numbers: int, limit_bytes: int = 1000) -> Fetching:
    """Lacking pieces of these numbers."""
    asked = Fetching(RETRY_S)
    asked.begin(1, [Lack(Part(0, n, 0, name(n)), limit_bytes) for n in numbers])
    return asked


def taken(asked: Fetching, blobs: list[Blob]) -> list[Step | None]:
    return [asked.take(blob, 0.0) for blob in blobs]


def test_it_asks_at_once_and_after_silences_that_double() -> None:
    """Up to a bound; a new connection begins anew, and something new ends a silence."""
    asked = fetching(1)
    waits, now_s = [], 0.0
    for _ in range(8):
        wait_s = asked.wait_s(now_s)
        assert wait_s is not None
        waits.append(wait_s)
        now_s += wait_s
        asked.ask(now_s)

    assert waits == [0, 10, 20, 40, 80, 160, LONGEST_RETRY_S, LONGEST_RETRY_S]
    asked.take(make_blobs(name(1), CONTENT, size=100)[0], now_s + 200)
    assert asked.wait_s(now_s + 200) == LONGEST_RETRY_S
    asked.ask_anew()
    assert asked.wait_s(now_s) == 0


def test_nothing_is_asked_for_where_nothing_is_lacking() -> None:
    """There is no time at which it would ask."""
    asked = fetching()

    assert asked.wait_s(0.0) is None
    assert len(asked) == 0


def test_a_question_says_what_is_there_already() -> None:
    """The newest piece of the module, and how far the content is."""
    asked = Fetching(RETRY_S)
    asked.begin(7, [Lack(Part(2, 3, 5, name(1)), 1000, have=name(9))])
    asked.take(make_blobs(name(1), CONTENT, base=name(9), size=100)[0], 0.0)

    (want,) = asked.ask(0.0)

    assert (want.layer, want.module, want.piece, want.have) == (2, 3, name(1), name(9))
    assert (want.content, want.offset) == (digest_bytes(CONTENT), 100)
    assert asked.submodel == 7


def test_many_pieces_are_asked_for_in_turns() -> None:
    """As many as fit a message; the others at once when these have come."""
    asked = fetching(*range(MAX_ASKED + 3))

    first = asked.ask(0.0)
    for want in first:
        asked.finish(want.piece)
    due_s = asked.wait_s(0.0)
    second = asked.ask(0.0)

    assert (len(first), due_s, len(second)) == (MAX_ASKED, 0.0, 3)


def test_chunks_continue_what_is_there() -> None:
    """A gap is left aside, a repeat too; of an overlap what is new is taken."""
    asked = fetching(1)
    first, second, third = make_blobs(name(1), CONTENT, size=100)
    overlap = make_blobs(name(1), CONTENT, offset=50, size=100)[0]

    steps = taken(asked, [second, first, first, third, overlap, second, third, third])

    grown = [None if step is None else step.data for step in steps]
    assert grown == [
        None, CONTENT[:100], None, None, CONTENT[100:150], CONTENT[150:200], CONTENT[200:], None,
    ]  # fmt: skip
    assert [s.is_new for s in steps if s] == [True, False, False, False]
    beginning = asked.beginning(name(1))
    assert beginning is not None
    assert beginning.is_whole


def test_another_content_of_the_same_piece_begins_anew() -> None:
    """The cloud's present content counts; the rest of the former one does no harm."""
    asked = fetching(1)
    former = make_blobs(name(1), CONTENT, size=100)
    present = make_blobs(name(1), CONTENT[::-1], size=100)

    steps = taken(asked, [former[0], present[0], former[1], present[1]])

    assert [s.is_new if s else None for s in steps] == [True, True, None, False]


@pytest.mark.parametrize(
    ("blob", "code"),
    [
        (make_blobs(name(5), CONTENT)[0], "too-large"),
        (make_blobs(name(1), bytes(1001))[0], "too-large"),
        (Blob(device="cam-1", session="0" * 16, seq=1, clock_ns=0, model=name(0), piece=name(1),
              content=name(3), size_bytes=10, offset=8, data=b"abc"), "bad-array"),
        (Blob(device="cam-1", session="0" * 16, seq=1, clock_ns=0, model=name(0), piece=name(1),
              content=digest_bytes(CONTENT), size_bytes=400, offset=100, data=b"a"), "bad-array"),
        (Blob(device="cam-1", session="0" * 16, seq=1, clock_ns=0, model=name(0), piece=name(1),
              base=name(8), content=digest_bytes(CONTENT), size_bytes=250, offset=100, data=b"a"),
         "bad-array"),
    ],
    ids=["not-asked-for", "larger-than-the-piece", "beyond-its-end", "another-size",
         "another-base"],
)  # fmt: skip
def test_a_chunk_that_cannot_be_right_is_refused(blob: Blob, code: str) -> None:
    """Under its code; what was there before is for the caller to forget."""
    asked = fetching(1)
    asked.take(make_blobs(name(1), CONTENT, size=100)[0], 0.0)

    with pytest.raises(WireError) as caught:
        asked.take(blob, 0.0)

    assert caught.value.code == code
    asked.restart(name(1))
    assert asked.beginning(name(1)) is None


def test_late_chunks_are_no_offence() -> None:
    """Neither of a piece that is there by now, nor of one that is not needed any more."""
    asked = fetching(1, 2)
    asked.ask(0.0)
    asked.finish(name(1))
    asked.begin(2, [])

    steps = taken(asked, [make_blobs(name(n), CONTENT)[0] for n in (1, 2)])

    assert steps == [None, None]


def test_who_sends_what_is_no_good_is_not_asked_at_once() -> None:
    """Only after the silence; else both would send for ever."""
    asked = fetching(1)
    asked.ask(0.0)

    asked.restart(name(1), have=name(4))

    assert asked.wait_s(1.0) == RETRY_S - 1
    (want,) = asked.ask(RETRY_S)
    assert want.have == name(4)
