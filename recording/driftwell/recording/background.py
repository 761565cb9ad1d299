"""A recording written by a thread of its own, so that a slow or full disk stops nobody.

What is handed over waits in memory, up to a limit; beyond it messages are left out and
counted. An error, of the disk or our own, ends the recording, is kept, and is told at `close`.
"""

import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from driftwell.messages.errors import RecordingError
from driftwell.recording.form import RecordedMessage

LIMIT_BYTES: Final = 128_000_000
LOOK_S: Final = 0.1  # how often an idle recording looks whether its chunk is old enough


class MessageWriter(Protocol):
    """Anything that writes recorded messages: one file, or several one after the other."""

    def write(self, message: RecordedMessage) -> bool:
        """Add one message; False if no recording can hold it."""

    def tick(self) -> None:
        """End the chunk if it is old enough."""

    def close(self) -> None:
        """Finish the file."""


class BackgroundWriter:
    """Hands messages to a writer in another thread."""

    def __init__(self, writer: MessageWriter, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._writer = writer
        self._limit_bytes = limit_bytes
        self._queue: queue.SimpleQueue[RecordedMessage | None] = queue.SimpleQueue()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self.left_out = 0
        """Messages not in the recording: no room in memory, too large, or the disk gave up.

        It is final when `close` has returned or raised.
        """
        self.failure: RecordingError | None = None
        """What ended the recording, as soon as it has."""
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def write(self, message: RecordedMessage) -> bool:
        """Hand over one message; whether it was taken. Never waits."""
        size = message.held_bytes
        with self._lock:
            is_full = self._held_bytes > 0 and self._held_bytes + size > self._limit_bytes
            if is_full or self._is_closed or self.failure is not None:
                self.left_out += 1
                return False
            self._held_bytes += size
            self._queue.put(message)  # in the lock: behind the end nobody would take it
        return True

    def close(self) -> None:
        """Write what waits, and finish the file.

        Raises:
            RecordingError: if the disk did not take all of it, or the recording ended before.
        """
        with self._lock:
            self._is_closed = True
            self._queue.put(None)
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        while True:
            try:
                message = self._queue.get(timeout=LOOK_S)
            except queue.Empty:
                if self.failure is None:
                    self._try(self._writer.tick)
                continue
            if message is None:
                self._try(self._writer.close)
                return
            is_written = self.failure is None and self._try(partial(self._writer.write, message))
            with self._lock:
                self._held_bytes -= message.held_bytes
                self.left_out += not is_written

    def _try(self, action: Callable[[], object]) -> bool:
        try:
            return action() is not False
        except RecordingError as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this thread only
            self._give_up(RecordingError(f"recording stopped: {error!r}"))
        return False

    def _give_up(self, error: RecordingError) -> None:
        with self._lock:
            self.failure = self.failure or error
