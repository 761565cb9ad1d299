"""What of the answered batches is on disk: their selected samples, counts and position, as one.

Small batches are gathered first (`uploads.UploadBudget`). What is gathered is in memory only, and
so is everything that was counted and remembered since: after a kill the device is where it was
before, and answers those images again. Nothing is lost, and nothing counts twice.
"""

from collections import Counter
from typing import Final

import structlog

from driftwell.edge.heads import DOMAINS
from driftwell.edge.outbox import Outbox
from driftwell.edge.predictions import Predictions
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sources import SourceBatch
from driftwell.edge.spool import Spool
from driftwell.edge.uploads import (
    Prepared,
    UploadBudget,
    decode_state,
    encode_state,
    origin_of,
)

BUDGET: Final = "budget"

log = structlog.get_logger()


class Keeping:
    """Puts batches into the spool; the outbox is told of each message."""

    def __init__(self, settings: EdgeSettings, *, model: str, spool: Spool, outbox: Outbox) -> None:
        """Go on with the budget that the spool remembers; `model` is the bundle's digest."""
        self.budget = UploadBudget(
            settings.budget, decode_state(spool.recall(BUDGET)), gather=settings.upload.gather
        )
        self._origin = origin_of(settings, model=model)
        self._spool = spool
        self._outbox = outbox
        self._booked: Counter[str] = Counter()
        """Samples by fate, of the batches that are not in the spool yet."""
        self._remembered: dict[str, bytes] = {}
        """What goes with them, by name: the newest one's."""

    def keep(
        self,
        batch: SourceBatch,
        predictions: Predictions,
        *,
        position_name: str,
        domains: bytes,
        now_ns: int,
    ) -> None:
        """Gather a batch's selected samples; put all that is gathered into the spool, if enough.

        Args:
            batch: As it was answered.
            predictions: The answers.
            position_name: Under which its position in the stream is remembered.
            domains: Where the node is now (`EdgeNode.memory`).
            now_ns: Wall clock.
        """
        selection = predictions.selection(batch.images, batch.index)
        seen = len(batch.index)
        self._booked += Counter(seen=seen, selected=len(selection), unreadable=batch.unreadable)
        self._remembered = {position_name: batch.position, DOMAINS: domains}
        prepared = self.budget.prepare(
            selection,
            self._origin,
            seen=seen,
            clock_ns=now_ns,
            has_drifted=predictions.has_drifted,
        )
        if not self.budget.is_gathering:
            self._store(prepared)

    def keep_rest(self, *, now_ns: int) -> None:
        """Put into the spool what is gathered: the stream ends, or the device is stopped."""
        if self.budget.is_gathering:
            self._store(self.budget.rest(self._origin, clock_ns=now_ns))

    def _store(self, prepared: Prepared) -> None:
        payloads = prepared.payloads
        booked, self._booked = self._booked + prepared.dropped, Counter()
        fits, removed = self._outbox.make_room(sum(len(payload) for payload, _ in payloads))
        if not fits:
            booked["dropped:spool-full"] = sum(samples for _, samples in payloads)
            payloads = []
        self._spool.settle(removed, "dropped:spool-full")
        remembered = self._remembered | {BUDGET: encode_state(self.budget.state)}
        entries = self._spool.add(payloads, booked=booked, remembered=remembered)
        if entries is None:
            log.warning("spool.disk-full", lost_samples=sum(samples for _, samples in payloads))
        for entry in entries or ():
            self._outbox.put(entry)
