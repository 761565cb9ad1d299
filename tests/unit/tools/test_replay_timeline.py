"""Recorded time: spans, moments, what is due when, and where a seek begins to read."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftwell.messages.errors import SettingsError
from driftwell.recording.form import RecordedMessage
from driftwell.tools.replay.timeline import (
    SECOND_NS,
    Span,
    Track,
    iso_time,
    parse_speed,
    reading_floor_ns,
)

BEGIN_NS = 1_772_366_400 * SECOND_NS  # 2026-03-01T12:00:00Z
SPAN = Span(BEGIN_NS, BEGIN_NS + 30 * SECOND_NS)


def message(received_ns: int) -> RecordedMessage:
    return RecordedMessage("t", b"", received_ns, received_ns)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("12.5", 12.5),
        ("30", 30.0),
        ("30.0004", 30.0),
        ("2026-03-01T12:00:10", 10.0),
        ("2026-03-01T13:00:10+01:00", 10.0),
        ("2026-03-01T12:00:00.250Z", 0.25),
    ],
)
def test_a_moment(text: str, seconds: float) -> None:
    """Seconds from the beginning, or an ISO time, in UTC unless it says otherwise."""
    assert SPAN.seconds(SPAN.moment(text, what="--start")) == seconds


@pytest.mark.parametrize("text", ["-1", "30.1", "1e300", "2026-03-01T12:00:31", "2020-01-01"])
def test_a_moment_outside_says_the_range(text: str) -> None:
    """An error about a place that is not there says which places there are."""
    with pytest.raises(SettingsError, match=r"30\.000 s, 2026-03-01T12:00:00\.000Z to"):
        SPAN.moment(text, what="--start")


@pytest.mark.parametrize("text", ["noon", "", "nan", "inf", "12:00"])
def test_a_moment_that_is_none(text: str) -> None:
    """What cannot be read is named, with the option it stood behind."""
    with pytest.raises(SettingsError, match="--end"):
        SPAN.moment(text, what="--end")


def test_a_cut() -> None:
    """Without limits a cut is all; an end before its start is an error."""
    assert SPAN.cut(None, None) == SPAN
    assert SPAN.cut("10", "20") == Span(BEGIN_NS + 10 * SECOND_NS, BEGIN_NS + 20 * SECOND_NS)
    with pytest.raises(SettingsError, match="--end 10 is before --start 20"):
        SPAN.cut("20", "10")


def test_the_printed_ends_are_inside() -> None:
    """Whoever copies the range out of an error gets no second one."""
    span = Span(BEGIN_NS + 123_456_789, BEGIN_NS + 5 * SECOND_NS + 987_654_321)

    ends = [span.moment(iso_time(time_ns), what="seek") for time_ns in (span.begin_ns, span.end_ns)]

    assert ends[0] == span.begin_ns
    assert 0 <= span.end_ns - ends[1] < 10**6


def test_time_stands_still_while_the_clock_is_behind() -> None:
    """The order is the file's; what a clock says after it went back is not believed."""
    track = Track([message(n) for n in (5, 9, 3, 8, 10, 7)], floor_ns=4, stretch=Span(0, 99))

    due = [(due_ns, one.received_ns) for due_ns, one in track]

    assert due == [(5, 5), (9, 9), (9, 3), (9, 8), (10, 10), (10, 7)]
    assert track.jumps == 2


def test_nothing_is_due_before_the_beginning() -> None:
    """The floor is the least; both ends of a stretch belong to it."""
    messages = [message(n) for n in (1, 2, 6, 8, 9, 3)]

    due = [due_ns for due_ns, _ in Track(messages, floor_ns=4, stretch=Span(4, 8))]
    later = [due_ns for due_ns, _ in Track(messages, floor_ns=4, stretch=Span(6, 99))]

    assert due == [4, 4, 6, 8]
    assert later == [6, 8, 9, 9]


@given(
    clocks=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4), max_size=6),
    begin=st.integers(0, 60),
)
def test_a_seek_reads_less_and_plays_the_same(clocks: list[list[int]], begin: int) -> None:
    """Whatever the clocks did: reading from the floor on plays exactly what reading all plays."""
    everything = [message(clock) for chunk in clocks for clock in chunk]
    floor = reading_floor_ns([(min(chunk), max(chunk)) for chunk in clocks], begin)
    read = [one for one in everything if one.received_ns >= floor]
    stretch = Span(begin, 100)

    assert list(Track(read, floor_ns=1, stretch=stretch)) == list(
        Track(everything, floor_ns=1, stretch=stretch)
    )


def test_a_seek_in_good_order_skips_what_is_before() -> None:
    """With clocks that run as they should, the chunks before the place are not read."""
    assert reading_floor_ns([(1, 5), (6, 9), (10, 20)], 8) == 6
    assert reading_floor_ns([(1, 5), (6, 9), (3, 20)], 8) == 3
    assert reading_floor_ns([], 8) == 0


def test_speeds() -> None:
    """A number within reason, or `max`."""
    assert [parse_speed(text) for text in ("1", "0.5", "max")] == [1.0, 0.5, math.inf]
    for text in ("0", "-1", "fast", "nan", "", "1e-12", "1e305"):
        with pytest.raises(SettingsError, match="use max, or a number from"):
            parse_speed(text)
