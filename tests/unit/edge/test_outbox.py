"""What is sent next, again, or never."""

import pytest

from driftwell.edge.outbox import LONGEST_RESEND_S, Entry, Outbox

SESSION = "a" * 16
OLD = "b" * 16


def make_outbox(*entries: Entry, window: int = 4, limit_bytes: int = 1000) -> Outbox:
    return Outbox(entries, session=SESSION, window=window, resend_s=10, limit_bytes=limit_bytes)


def fresh(*ids: int) -> list[Entry]:
    return [Entry(number, samples=1, size_bytes=100) for number in ids]


def test_numbers_are_given_in_order_of_age_within_the_window() -> None:
    """Oldest first, numbered from 1 without gaps; beyond the window nothing is sent."""
    outbox = make_outbox(*fresh(5, 6, 7), window=2)

    sent = [outbox.dispatch(0.0) for _ in range(3)]

    assert [(e.id, e.seq, e.session) for e in sent if e] == [(5, 1, SESSION), (6, 2, SESSION)]
    assert sent[2] is None
    assert [entry.id for entry in outbox.acknowledged(SESSION, 1)] == [5]
    third = outbox.dispatch(0.0)
    assert third is not None
    assert (third.id, third.seq) == (7, 3)


def test_what_is_not_acknowledged_is_sent_again_ever_later() -> None:
    """The wait doubles with each attempt, up to its bound; the number stays."""
    outbox = make_outbox(*fresh(1))
    assert outbox.wait_s(0.0) is None
    now_s, waits = 0.0, []
    for _ in range(8):
        entry = outbox.dispatch(now_s)
        assert entry is not None
        assert entry.seq == 1
        wait_s = outbox.wait_s(now_s)
        assert wait_s is not None
        assert outbox.dispatch(now_s + wait_s - 0.001) is None
        waits.append(wait_s)
        now_s += wait_s

    assert waits[:5] == pytest.approx([10, 20, 40, 80, 160])
    assert waits[5:] == pytest.approx([LONGEST_RESEND_S] * 3)


def test_a_lost_connection_puts_all_back_in_a_hurry() -> None:
    """Everything in flight is due at once, with its number, and the wait begins anew."""
    outbox = make_outbox(*fresh(1, 2))
    for now_s in (0.0, 0.0, 10.0):
        outbox.dispatch(now_s)

    outbox.connection_lost()

    again = [outbox.dispatch(11.0) for _ in range(2)]
    assert [(e.id, e.seq, e.attempts) for e in again if e] == [(1, 1, 1), (2, 2, 1)]
    assert outbox.wait_s(11.0) == pytest.approx(10)


def test_only_what_was_never_sent_is_dropped() -> None:
    """Room is made by the oldest never sent; what was sent stays, although it is older."""
    outbox = make_outbox(*fresh(1, 2, 3), limit_bytes=300)
    outbox.dispatch(0.0)

    fits, dropped = outbox.make_room(150)

    assert fits
    assert [entry.id for entry in dropped] == [2, 3]
    assert (len(outbox), outbox.size_bytes) == (1, 100)


def test_what_cannot_fit_drops_nothing() -> None:
    """A batch larger than the room that could be made leaves everything where it is."""
    outbox = make_outbox(*fresh(1, 2), limit_bytes=300)
    outbox.dispatch(0.0)

    assert outbox.make_room(250) == (False, [])
    assert len(outbox) == 2
    assert outbox.make_room(100) == (True, [])


def test_an_earlier_sessions_entries_keep_their_numbers() -> None:
    """They are sent first, under their old session, and acknowledged under it alone."""
    outbox = make_outbox(Entry(1, 1, 100, OLD, 7), *fresh(2))

    first, second = outbox.dispatch(0.0), outbox.dispatch(0.0)

    assert first is not None
    assert second is not None
    assert (first.session, first.seq) == (OLD, 7)
    assert (second.session, second.seq) == (SESSION, 1)
    assert outbox.oldest_seq(OLD) == 7
    assert [entry.id for entry in outbox.acknowledged(OLD, 7)] == [1]
    assert outbox.last_seq == 1


def test_oldest_seq_is_the_first_still_held() -> None:
    """Once all is settled it is the number given next."""
    outbox = make_outbox(*fresh(1, 2))
    assert outbox.oldest_seq(SESSION) == 1
    outbox.dispatch(0.0)
    outbox.dispatch(0.0)
    outbox.remove(1)
    assert outbox.oldest_seq(SESSION) == 2
    outbox.acknowledged(SESSION, 2)
    assert outbox.oldest_seq(SESSION) == 3
    assert outbox.remove(1) is None
    assert outbox.size_bytes == 0


def test_what_the_broker_did_not_take_goes_at_once() -> None:
    """An entry that was not sent is dispatched again without a wait."""
    outbox = make_outbox(*fresh(1))
    outbox.dispatch(0.0)
    assert outbox.dispatch(0.0) is None

    outbox.not_sent(1)
    outbox.not_sent(99)

    again = outbox.dispatch(0.0)
    assert again is not None
    assert again.seq == 1


def test_a_batch_given_up_is_not_expected() -> None:
    """Nobody waits for the cloud to settle what it will never be offered."""
    outbox = Outbox([], session="a" * 16, window=4, resend_s=1.0, limit_bytes=1000)
    outbox.put(Entry(1, samples=1, size_bytes=10))
    outbox.put(Entry(2, samples=1, size_bytes=10))
    assert outbox.dispatch(0.0) is not None
    last = outbox.dispatch(0.0)
    assert last is not None
    assert outbox.expected_seq == 2

    outbox.remove(last.id)
    outbox.acknowledged("a" * 16, 1)

    assert outbox.last_seq == 2
    assert outbox.expected_seq == 1
