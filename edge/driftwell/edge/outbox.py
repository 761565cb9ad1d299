"""Pure. What to send next, what to send again, and what may be dropped.

An entry is in one of two conditions, and this table is the whole machine:

    waiting --dispatch--> in flight --acknowledged--> gone
    waiting <--timeout, connection lost-- in flight
    waiting --dropped (only if never sent)--> gone

A sequence number is given at the first dispatch, so the numbers of a session have no
gaps. Only an entry that was never sent may be dropped: the cloud may have stored any
other, and a sample must not be counted as dropped here and as trained there.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

LONGEST_RESEND_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample batch in the spool."""

    id: int
    """Its row in the spool; rises with age."""
    samples: int
    size_bytes: int
    session: str = ""
    """Of its first dispatch; empty while it was never sent."""
    seq: int = 0
    sent_at_s: float | None = None
    """When it was last handed to the broker; None while it waits."""
    attempts: int = 0
    """How often it was sent on this connection without an answer."""
    is_doubtful: bool = False
    """The cloud may have it: it was sent, and what became of it is not known."""


class Outbox:
    """The spool's entries in order of age. Times are seconds of one monotonic clock."""

    def __init__(
        self,
        entries: Iterable[Entry],
        *,
        session: str,
        window: int,
        resend_s: float,
        limit_bytes: int,
    ) -> None:
        self._entries = {entry.id: entry for entry in entries}
        self._size_bytes = sum(entry.size_bytes for entry in self._entries.values())
        self._session = session
        self._next_seq = 1
        self._settled_seq = 0
        self._window = window
        self._resend_s = resend_s
        self._limit_bytes = limit_bytes

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Bytes of all entries."""
        return self._size_bytes

    @property
    def last_seq(self) -> int:
        """The highest seq given out in this session; 0 before the first."""
        return self._next_seq - 1

    @property
    def expected_seq(self) -> int:
        """The highest seq of this session the cloud has settled or is still to be offered.

        Below `last_seq` if the last batches were given up.
        """
        held = [entry.seq for entry in self._ever_sent() if entry.session == self._session]
        return max(held, default=self._settled_seq)

    def oldest_seq(self, session: str) -> int:
        """The lowest seq of `session` still held; all below are settled."""
        held = [entry.seq for entry in self._ever_sent() if entry.session == session]
        return min(held, default=self._next_seq)

    def make_room(self, size_bytes: int) -> tuple[bool, list[Entry]]:
        """Decide how a new batch of `size_bytes` fits under the limit.

        Returns:
            Whether it fits, and the entries removed for it: the oldest never sent.
        """
        excess = self.size_bytes + size_bytes - self._limit_bytes
        dropped: list[Entry] = []
        for entry in self._entries.values():
            if excess <= 0:
                break
            if not entry.session:
                dropped.append(entry)
                excess -= entry.size_bytes
        if excess > 0:
            return False, []
        for entry in dropped:
            self.remove(entry.id)
        return True, dropped

    def put(self, entry: Entry) -> None:
        """Add a batch the spool has stored."""
        self._entries[entry.id] = entry
        self._size_bytes += entry.size_bytes

    def dispatch(self, now_s: float) -> Entry | None:
        """The entry to send now, numbered and in flight; None if there is nothing to send.

        In flight entries go first once their time is up: an answer to them frees the window.
        """
        for older_in_flight, entry in enumerate(self._entries.values()):
            if older_in_flight == self._window:
                return None
            if entry.sent_at_s is None or now_s >= self._due_s(entry):
                return self._send(entry, now_s)
        return None

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until an entry in flight is due again; None if none is in flight."""
        due = [self._due_s(entry) for entry in self._ever_sent() if entry.sent_at_s is not None]
        return max(0.0, min(due) - now_s) if due else None

    def not_sent(self, entry_id: int) -> None:
        """The broker did not take it, or nobody knows: it waits again."""
        if entry_id in self._entries:
            entry = self._entries[entry_id]
            self._entries[entry_id] = replace(entry, sent_at_s=None, is_doubtful=True)

    def connection_lost(self) -> None:
        """Everything in flight waits again, and is in a hurry again."""
        for entry in self._ever_sent():
            self._entries[entry.id] = replace(entry, sent_at_s=None, attempts=0, is_doubtful=True)

    def remove(self, entry_id: int) -> Entry | None:
        """Forget an entry that was given up for a reason the caller books."""
        entry = self._entries.pop(entry_id, None)
        self._size_bytes -= entry.size_bytes if entry else 0
        return entry

    def acknowledged(self, session: str, stored_seq: int) -> list[Entry]:
        """Remove and return what the cloud has settled of `session`."""
        settled = [
            entry
            for entry in self._ever_sent()
            if entry.session == session and entry.seq <= stored_seq
        ]
        for entry in settled:
            self.remove(entry.id)
            if entry.session == self._session:
                self._settled_seq = max(self._settled_seq, entry.seq)
        return settled

    def _due_s(self, entry: Entry) -> float:
        # A broker without a cloud behind it answers nothing: waiting doubles, so that
        # uploads nobody takes cost little.
        patience_s = min(LONGEST_RESEND_S, self._resend_s * 2.0 ** min(entry.attempts - 1, 16))
        return (entry.sent_at_s or 0.0) + patience_s

    def _ever_sent(self) -> list[Entry]:
        # Entries are sent in order of age, so the first one never sent ends the list;
        # at most a window of them and what an earlier session left.
        return list(itertools.takewhile(lambda entry: entry.session, self._entries.values()))

    def _send(self, entry: Entry, now_s: float) -> Entry:
        if not entry.session:
            entry = replace(entry, session=self._session, seq=self._next_seq)
            self._next_seq += 1
        is_doubtful = entry.is_doubtful or entry.attempts > 0
        entry = replace(
            entry, sent_at_s=now_s, attempts=entry.attempts + 1, is_doubtful=is_doubtful
        )
        self._entries[entry.id] = entry
        return entry
