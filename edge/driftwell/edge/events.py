"""What a device has to tell the cloud of versions, sub-models and domains, until it is told."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Literal

import structlog

from driftwell.messages.errors import WireError
from driftwell.messages.event import Event

log = structlog.get_logger()

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


class Refusals:
    """What a device did not take from the cloud: counted, logged and reported under its code."""

    def __init__(self, counters: Counter[str], events: Events) -> None:
        self._counters = counters
        self._events = events

    def note(
        self, what: Literal["version", "submodel", "piece"], version: int, error: WireError
    ) -> None:
        """Note a refusal.

        Args:
            what: What was not taken.
            version: Of a version or sub-model, of a piece that of its sub-model; 0: not known.
            error: Why.
        """
        self._counters[f"refused:{error.code}"] += 1
        self._counters[f"{what}s_refused"] += 1
        event = f"{what}.refused"
        log.warning(event, version=version, code=error.code, detail=str(error))
        detail = str(error) if what == "version" else f"{what}: {error}"
        self._events.note("refused", version, code=str(error.code), detail=detail[:500])
