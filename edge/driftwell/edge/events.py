"""What a device has to tell the cloud of versions and domains, until it is told."""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from driftwell.messages.event import Event

MAX_EVENTS: Final = 256
"""Events that wait at most; then the oldest are given up."""


class Events(deque[Event]):
    """The events of one session, the oldest first."""

    def __init__(
        self, *, device: str, session: str, model: str, wall_ns: Callable[[], int]
    ) -> None:
        super().__init__(maxlen=MAX_EVENTS)
        self._device, self._session, self._model = device, session, model
        self._wall_ns = wall_ns
        self._seq = 0

    def note(
        self,
        event: Literal["applied", "refused", "drift", "recalled"],
        version: int,
        *,
        code: str = "",
        detail: str = "",
        lag_s: float | None = None,
    ) -> None:
        """Add an event; the fields are those of `messages.event.Event`."""
        self._seq += 1
        self.append(
            Event(
                device=self._device,
                session=self._session,
                seq=self._seq,
                clock_ns=self._wall_ns(),
                model=self._model,
                event=event,
                version=version,
                code=code,
                detail=detail,
                lag_s=lag_s,
            )
        )
