"""One device's running state: what its loops share, and the decisions on what comes in.

The loops (`loops.py`) wait and carry; this object decides and books. All of it runs in
the event loop's thread, except the forward pass.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import numpy as np
import structlog

from driftwell.broker import Connection
from driftwell.edge.drift import DriftVerdict
from driftwell.edge.events import Events, Refusals
from driftwell.edge.filter import Verdict
from driftwell.edge.heads import Heads
from driftwell.edge.keeping import Keeping
from driftwell.edge.learning import Learner
from driftwell.edge.modules import Modules
from driftwell.edge.node import EdgeNode
from driftwell.edge.outbox import Entry, Outbox
from driftwell.edge.packing import stamp
from driftwell.edge.predictions import Predictions
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sources import SourceBatch
from driftwell.edge.spool import Spool
from driftwell.edge.subnetwork import ModularModel
from driftwell.edge.timing import Clocks, Timing
from driftwell.edge.trust import Trust
from driftwell.messages.ack import Ack
from driftwell.messages.errors import MalformedError, WireError
from driftwell.messages.head import Manifest

MAX_ANSWERS: Final = 256

log = structlog.get_logger()


class Device:
    """State and decisions of one edge daemon."""

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        node: EdgeNode,
        spool: Spool,
        connection: Connection,
        session: str,
        clocks: Clocks,
        memory_bytes: int,
        software: str,
    ) -> None:
        self.memory_bytes = memory_bytes
        self.software = software
        self.settings = settings
        self.node = node
        self.spool = spool
        self.connection = connection
        self.session = session
        self.clocks = clocks
        self.timing = Timing()
        self.counters: Counter[str] = Counter()
        self.reports = Events(
            device=settings.device, session=session, model=self.model, wall_ns=clocks.wall_ns
        )
        self.refusals = Refusals(self.counters, self.reports)
        self.trust = Trust(settings.trust, spool)
        self.heads = Heads(
            node,
            spool,
            self.trust,
            self.refusals,
            wall_ns=clocks.wall_ns,
            limit_bytes=settings.message_limit_bytes,
        )
        self.modules: Modules | None = None
        """Where its bundle is modular."""
        if isinstance(node.bundle, ModularModel):
            self.modules = Modules(
                node.bundle,
                node,
                settings,
                spool=spool,
                trust=self.trust,
                refusals=self.refusals,
                counters=self.counters,
                clocks=clocks,
            )
        self.learner: Learner | None = None
        """Where its modules are to learn on the device."""
        if self.modules is not None and settings.learning.enabled:
            classes = len(node.bundle.manifest.classes)
            self.learner = Learner(self.modules, settings.learning, classes=classes)
        self.reading_wanted = asyncio.Event()
        """Set it to have telemetry published at once."""
        self.answers: deque[bytes] = deque(maxlen=MAX_ANSWERS)
        """Predictions for the network, where they are wanted there."""
        self.changed = asyncio.Condition()
        self.settled_seq = 0
        self.cloud_version = 0
        self.cloud_domain = 0
        self.outbox = Outbox(
            spool.entries(),
            session=session,
            window=settings.spool.window,
            resend_s=settings.spool.resend_s,
            limit_bytes=settings.spool.limit_bytes,
        )
        self._keeping = Keeping(settings, model=self.model, spool=spool, outbox=self.outbox)
        self.budget = self._keeping.budget

    @property
    def model(self) -> str:
        """The digest of the bundle it runs."""
        return self.node.bundle.digest

    @property
    def has_caught_up(self) -> bool:
        """Whether the cloud is done with all that was sent, and its answer was taken."""
        return (
            len(self.outbox) == 0
            and self.settled_seq >= self.outbox.expected_seq
            and self.heads.decided.get(self.cloud_domain, 0) >= self.cloud_version
        )

    async def announce(self) -> None:
        """Wake the loops that wait for a change of the outbox, the acks or the version."""
        async with self.changed:
            self.changed.notify_all()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count the time inside as overhead."""
        began = self.clocks.monotonic_s()
        try:
            yield
        finally:
            self.timing.other_s += self.clocks.monotonic_s() - began

    def record(self, predictions: Predictions, infer_s: float) -> None:
        """Note a batch's timing, its verdicts, and the version it swapped in, if one."""
        self.timing.forward_s += predictions.forward_s
        self.timing.other_s += infer_s - predictions.forward_s
        self.timing.batches += 1
        if not self.node.is_switching:  # else it was answered by what has been replaced since
            self.timing.latency_s.append(infer_s)
        verdicts = np.bincount(predictions.verdicts, minlength=len(Verdict))
        for verdict in Verdict:
            self.counters[f"verdict:{verdict.word}"] += int(verdicts[verdict])
        if predictions.is_recalled:
            self._report_recall(predictions.version)
        elif predictions.swapped is not None:
            self._report_applied(predictions.swapped)
        if predictions.drift is not None and predictions.drift.drifted:
            self._report_drift(predictions.drift, predictions.version)

    def keep_selected(
        self, batch: SourceBatch, predictions: Predictions, *, position_name: str
    ) -> None:
        """Put a batch's selected samples into the spool and book them, when enough are gathered."""
        self._keeping.keep(
            batch,
            predictions,
            position_name=position_name,
            domains=self.node.memory(),
            now_ns=self.clocks.wall_ns(),
        )

    def keep_rest(self) -> None:
        """Put into the spool what small batches have gathered: no other comes."""
        self._keeping.keep_rest(now_ns=self.clocks.wall_ns())

    def next_message(self) -> tuple[Entry, bytes] | None:
        """The sample batch to send now, numbered; damaged ones are dropped and booked."""
        while entry := self.outbox.dispatch(self.clocks.monotonic_s()):
            payload = self.spool.payload(entry)
            if not self.spool.number(entry):
                self.outbox.not_sent(entry.id)
                return None
            try:
                if payload is None:
                    raise MalformedError("the spool lost it")
                return entry, stamp(
                    payload,
                    session=entry.session,
                    seq=entry.seq,
                    oldest_seq=self.outbox.oldest_seq(entry.session),
                    limit_bytes=self.settings.message_limit_bytes,
                )
            except WireError as error:
                log.warning("spool.damaged", error=str(error), seq=entry.seq)
                if not entry.is_doubtful:
                    self.give_up(entry, f"dropped:{error.code}")
        return None

    def give_up(self, entry: Entry, fate: str) -> None:
        """Forget an entry and book why."""
        if self.outbox.remove(entry.id):
            self.spool.settle([entry], fate)

    def take_ack(self, ack: Ack) -> None:
        """Delete what the cloud has settled; book what it refused under its code."""
        codes = {refused.seq: refused.code for refused in ack.refused}
        by_fate: dict[str, list[Entry]] = {}
        for entry in self.outbox.acknowledged(ack.of_session, ack.stored_seq):
            code = codes.get(entry.seq)
            by_fate.setdefault(f"rejected:{code}" if code else "acknowledged", []).append(entry)
        for fate, entries in by_fate.items():
            self.spool.settle(entries, fate)
        if ack.of_session == self.session:
            self.settled_seq = max(self.settled_seq, ack.settled_seq)
            self.cloud_version = ack.version
            self._take_place(ack)

    def restore(self) -> None:
        """Go on with what the device last took, without waiting for the broker."""
        self.heads.restore()
        if self.modules is not None:
            self.modules.restore()

    def _take_place(self, ack: Ack) -> None:
        if isinstance(ack.domain, msgspec.UnsetType):
            return
        drifts = 0 if isinstance(ack.drifts, msgspec.UnsetType) else ack.drifts
        self.cloud_domain = ack.domain
        self.node.take_place(drifts=drifts, domain=ack.domain)

    def _report_applied(self, manifest: Manifest) -> None:
        lag_s = max(0.0, (self.clocks.wall_ns() - manifest.newest_sample_ns) / 1e9)
        self.timing.lag_s.append(lag_s)
        self.counters["versions_applied"] += 1
        log.info("version.applied", version=manifest.version, lag_s=round(lag_s, 3))
        self.reports.note("applied", manifest.version, lag_s=lag_s)

    def _report_recall(self, version: int) -> None:
        self.counters["recalls"] += 1
        domain = self.node.domains.domain
        log.info("domain.recalled", domain=domain, version=version)
        self.reports.note("recalled", version, detail=f"domain {domain}")

    def _report_drift(self, drift: DriftVerdict, version: int) -> None:
        self.counters["drifts"] += 1
        log.info("drift", cause=drift.cause, distance=drift.distance)
        self.reports.note("drift", version, detail=drift.cause or "")
