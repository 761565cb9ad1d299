"""Pure. The last minutes of messages in memory, and the events at which they are wanted."""

from collections import deque
from collections.abc import Collection
from typing import Final

from driftwell.messages.codec import decode
from driftwell.messages.errors import WireError
from driftwell.messages.event import Event
from driftwell.messages.topics import Kind, parse_topic
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage

LIMIT_BYTES: Final = 256_000_000
EVENTS: Final = ("applied", "budget", "drift", "recalled", "refused", "reverted")
"""What an event message can tell."""


class Ring:
    """The messages of the last `keep_s` seconds, and no more than `limit_bytes`."""

    def __init__(self, *, keep_s: float, limit_bytes: int = LIMIT_BYTES) -> None:
        self._keep_s = keep_s
        self._limit_bytes = limit_bytes
        self._held: deque[tuple[float, RecordedMessage]] = deque()
        self.size_bytes = 0
        """Of all that is held."""

    def __len__(self) -> int:
        return len(self._held)

    def add(self, message: RecordedMessage, now_s: float) -> None:
        """Keep a message that came at `now_s`, monotonic seconds; let go of what is too old."""
        self._held.append((now_s, message))
        self.size_bytes += message.held_bytes
        while self._held and (
            self._held[0][0] < now_s - self._keep_s or self.size_bytes > self._limit_bytes
        ):
            self.size_bytes -= self._held.popleft()[1].held_bytes

    def take(self) -> list[RecordedMessage]:
        """Give all that is held, oldest first, and hold nothing."""
        messages = [message for _, message in self._held]
        self._held.clear()
        self.size_bytes = 0
        return messages


def tells_of(message: RecordedMessage, events: Collection[str]) -> bool:
    """Whether the message is a device's event, and one of these."""
    try:
        if parse_topic(message.topic).kind is not Kind.EVENT:
            return False
        event = decode(message.payload, limit_bytes=MAX_MESSAGE)
    except WireError:
        return False
    return isinstance(event, Event) and event.event in events
