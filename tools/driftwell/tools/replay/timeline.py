"""Pure. When each message of a recording is due, and where in the file a seek begins.

The order of a recording is the file's. A message's time is its recorder's clock, or the
latest clock before it where that one jumped back: time stands still until it is caught up.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from driftwell.messages.errors import SettingsError
from driftwell.recording.form import RecordedMessage

SECOND_NS: Final = 10**9
TOLERANCE_NS: Final = 10**6
SLOWEST: Final = 1 / 1024
FASTEST: Final = 1024.0
"""As exact as a moment is told: an end of the range is in it as it was printed."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of recorded time, both ends included; nanoseconds since the Unix epoch."""

    begin_ns: int
    end_ns: int

    @property
    def length_s(self) -> float:
        """From the first to the last message."""
        return (self.end_ns - self.begin_ns) / SECOND_NS

    def seconds(self, time_ns: int) -> float:
        """A moment, as seconds from the beginning."""
        return (time_ns - self.begin_ns) / SECOND_NS

    def clamp(self, time_ns: int) -> int:
        """The moment in the span that is nearest."""
        return min(max(time_ns, self.begin_ns), self.end_ns)

    def moment(self, text: str, *, what: str) -> int:
        """Read seconds from the beginning (`12.5`) or an ISO time (UTC unless it says).

        Raises:
            SettingsError: if it is neither, or outside; the text says what the range is.
        """
        time_ns = self._read(text, what)
        nearest_ns = self.clamp(time_ns)
        if abs(time_ns - nearest_ns) >= TOLERANCE_NS:
            raise SettingsError(f"{what} {text} is outside of the recording: {self.describe()}")
        return nearest_ns

    def cut(self, start: str | None, end: str | None) -> "Span":
        """The part between two moments, as `moment` reads them.

        Raises:
            SettingsError: if one cannot be read or is outside, or the end is before the start.
        """
        start_ns = self.begin_ns if start is None else self.moment(start, what="--start")
        end_ns = self.end_ns if end is None else self.moment(end, what="--end")
        if end_ns < start_ns:
            raise SettingsError(f"--end {end} is before --start {start}; exchange them")
        return Span(start_ns, end_ns)

    def describe(self) -> str:
        """Both ends in words, as seconds and as ISO times."""
        return (
            f"it runs from 0 to {self.length_s:.3f} s, "
            f"{iso_time(self.begin_ns)} to {iso_time(self.end_ns)}"
        )

    def _read(self, text: str, what: str) -> int:
        try:
            seconds = float(text)
        except ValueError:
            return _read_iso(text, what)
        if not math.isfinite(seconds * SECOND_NS):
            raise SettingsError(f"{what} {text} is not a moment; {self.describe()}")
        return self.begin_ns + round(seconds * SECOND_NS)


class Track:
    """The messages of a stretch, in the file's order, each with the time it is due."""

    def __init__(
        self, messages: Iterable[RecordedMessage], *, floor_ns: int, stretch: Span
    ) -> None:
        """Begin a track.

        Args:
            messages: In the file's order.
            floor_ns: When the recording begins; no message is due before.
            stretch: Messages due outside of it are left out.
        """
        self._messages = messages
        self._now_ns = floor_ns
        self._stretch = stretch
        self.jumps = 0
        """How often the recorder's clock went back."""

    def __iter__(self) -> Iterator[tuple[int, RecordedMessage]]:
        last_ns = 0
        for message in self._messages:
            self.jumps += message.received_ns < last_ns
            last_ns = message.received_ns
            self._now_ns = max(self._now_ns, message.received_ns)
            if self._now_ns > self._stretch.end_ns:
                return
            if self._now_ns >= self._stretch.begin_ns:
                yield self._now_ns, message


def reading_floor_ns(chunks: Sequence[tuple[int, int]], time_ns: int) -> int:
    """Which messages must be read, so that none that is due at `time_ns` or later is missed.

    Args:
        chunks: Earliest and latest clock of each chunk, in the file's order.
        time_ns: What is wanted.

    Returns:
        All that were received at this time or later; 0 if the clocks do not help.
    """
    for position, (_, latest_ns) in enumerate(chunks):
        if latest_ns >= time_ns:
            return min(earliest_ns for earliest_ns, _ in chunks[position:])
    return 0


def parse_speed(text: str) -> float:
    """Read `1`, `0.5`, `10` or `max`, which is infinite.

    Raises:
        SettingsError: if it is no positive number.
    """
    try:
        speed = math.inf if text == "max" else float(text)
    except ValueError:
        speed = math.nan
    if not (SLOWEST <= speed <= FASTEST or speed == math.inf):
        raise SettingsError(
            f"speed {text!r} is not understood; use max, or a number from {SLOWEST:g} to "
            f"{FASTEST:g}"
        )
    return speed


def iso_time(time_ns: int) -> str:
    """A time to the millisecond, in UTC."""
    moment = EPOCH + timedelta(microseconds=time_ns // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _read_iso(text: str, what: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{what} {text!r} is not understood; use seconds from the beginning, such as 12.5, "
            "or a time such as 2026-03-01T12:00:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000
