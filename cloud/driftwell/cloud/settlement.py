"""Pure. Up to where each session is settled: stored, and nothing more to come of it.

An edge in lockstep goes on when its last batch is settled. A session waits from the
moment it brings samples until the learner is idle for every cohort it brought some for.
"""

from typing import Final

MAX_SESSIONS: Final = 10_000


class Settlement:
    """Which sessions wait, and the mark of those that do not."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], dict[str, None]] = {}
        self._settled: dict[tuple[str, str], int] = {}

    @property
    def has_waiting(self) -> bool:
        """Whether any session waits."""
        return bool(self._waiting)

    @property
    def waiting(self) -> list[tuple[str, str]]:
        """Device and session of all that wait."""
        return list(self._waiting)

    def wait(self, cohort: str, device: str, session: str) -> None:
        """The session brought samples for `cohort`."""
        cohorts = self._waiting.setdefault((device, session), {})
        cohorts.pop(cohort, None)
        cohorts[cohort] = None

    def cohorts_of(self, device: str, session: str) -> list[str]:
        """The cohorts that the session waits for; the one it brought samples for last is last."""
        return list(self._waiting.get((device, session), ()))

    def is_waiting(self, device: str, session: str) -> bool:
        """Whether the session waits."""
        return (device, session) in self._waiting

    def settle(self, device: str, session: str, seq: int) -> None:
        """Everything of the session up to `seq` is settled; the longest settled is forgotten."""
        self._waiting.pop((device, session), None)
        self._settled.pop((device, session), None)
        self._settled[device, session] = seq
        if len(self._settled) > MAX_SESSIONS:
            del self._settled[next(iter(self._settled))]

    def settled_seq(self, device: str, session: str) -> int:
        """The session's mark; 0 if nothing of it is settled."""
        return self._settled.get((device, session), 0)
