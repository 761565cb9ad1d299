"""A recording as a replay reads it: one stretch of it after another."""

from pathlib import Path
from types import TracebackType
from typing import Self

from driftwell.messages.errors import RecordingError
from driftwell.messages.topics import parse_topic
from driftwell.recording.reader import Recording, Selection
from driftwell.tools.replay.plan import Plan
from driftwell.tools.replay.timeline import Span, Track, reading_floor_ns


class Tape:
    """One recording, open."""

    def __init__(self, path: Path) -> None:
        """Open it and look at its beginning and its index.

        Raises:
            RecordingError: if it cannot be read, or is empty.
        """
        self.recording = Recording(path)
        try:
            self.whole = self._span()
        except BaseException:
            self.recording.close()
            raise
        summary = self.recording.summary
        in_order = sorted(summary.chunk_indexes, key=lambda chunk: chunk.chunk_start_offset)
        self._chunks = [
            (chunk.message_start_time, chunk.message_end_time)
            for chunk in in_order
            if chunk.message_end_time
        ]

    def track(self, plan: Plan, *, from_ns: int) -> Track:
        """What the plan plays, from a moment on.

        Raises:
            RecordingError: while it is read, if the recording is damaged.
        """
        addresses = [parse_topic(topic) for topic in plan.topics]
        selection = Selection(
            kinds={address.kind for address in addresses},
            devices={address.device for address in addresses},
            start_ns=reading_floor_ns(self._chunks, from_ns),
        )
        messages = self.recording.messages(selection)
        return Track(
            (message for message in messages if message.topic in plan.topics),
            floor_ns=self.whole.begin_ns,
            stretch=Span(from_ns, plan.stretch.end_ns),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.recording.close()

    def _span(self) -> Span:
        first = next(self.recording.messages(), None)
        if first is None:
            raise RecordingError(f"{self.recording.path} has no messages: nothing to replay")
        return Span(first.received_ns, max(first.received_ns, self.recording.span_ns[1]))
