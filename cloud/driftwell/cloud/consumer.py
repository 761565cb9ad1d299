"""The cloud's running state: what its loops share, and the decisions on what comes in.

The loops (`loops.py`) wait and carry; this object decides and books. All of it runs in
the event loop's thread, except the learning step.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from driftwell.cloud.cohort import Cohort, Work
from driftwell.cloud.cohorts import Cohorts
from driftwell.cloud.inbox import admit
from driftwell.cloud.issuing import Issuer
from driftwell.cloud.learner import Learner, Step
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.modular.keeper import ModuleKeeper
from driftwell.cloud.policy import Plan, plan_step
from driftwell.cloud.publisher import Lineage
from driftwell.cloud.settings import CloudSettings, configuration_document
from driftwell.cloud.settlement import Settlement
from driftwell.cloud.signing_key import public_key
from driftwell.cloud.tables import StoredVersion
from driftwell.messages.ack import Ack
from driftwell.messages.codec import Sender, read_sender
from driftwell.messages.errors import RefusalCode, WireError
from driftwell.messages.images import Pixels
from driftwell.messages.samples import SampleBatch
from driftwell.messages.state import State
from driftwell.messages.telemetry import Telemetry
from driftwell.models.bundle import Bundle

MAX_DEVICES: Final = 10_000

log = structlog.get_logger()


class Consumer:
    """State and decisions of one cloud consumer."""

    def __init__(
        self,
        settings: CloudSettings,
        *,
        edge: Bundle,
        learner: Learner,
        ledger: Ledger,
        key: Ed25519PrivateKey,
        session: str,
        wall_ns: Callable[[], int],
        software: str,
    ) -> None:
        self.settings = settings
        self.edge = edge
        self.learner = learner
        self.ledger = ledger
        self.session = session
        self.wall_ns = wall_ns
        self.public_key = public_key(key)
        self.changed = asyncio.Condition()
        self.cohorts = Cohorts(settings, learner=learner, ledger=ledger, admit=self._admit)
        self.states: dict[str, State] = {}
        self.telemetry: dict[str, Telemetry] = {}
        self.counters: Counter[str] = Counter()
        self.settlement = Settlement()
        self.unpublished: set[str] = set()
        """Cohorts whose newest head the broker has not answered for."""
        self.issuer = Issuer(
            Lineage(
                group=settings.group,
                model=edge.digest,
                source_digest=edge.manifest.source_digest,
                source=edge.source,
                method=settings.method.name,
                config=settings.method.digest,
                software=software,
            ),
            ledger=ledger,
            source=learner.source,
            key=key,
            expiry_days=settings.expiry_days,
            wall_ns=wall_ns,
        )
        self.keeper: ModuleKeeper | None = None
        """Of the modules, where the edge bundle is modular."""
        self.is_revert_waiting = False
        """Whether somebody is known to have asked for a revert since the last one."""
        self._sequence: Counter[str] = Counter()
        self._active: dict[str, None] = {}
        """Cohorts something happened to since they were last found idle, in turn."""

    def restore(self) -> None:
        """Rebuild every cohort from the ledger.

        Raises:
            SettingsError: if the ledger is of another edge model.
        """
        self.ledger.claim(self.edge.digest)
        self.ledger.configure(
            self.settings.method.digest,
            configuration_document(
                self.settings,
                foundation=self.learner.foundation_digest,
                start=self.learner.start_digest,
            ),
        )
        self.cohorts.restore()
        self._active.update(dict.fromkeys(self.cohorts))

    async def announce(self) -> None:
        """Wake the learning loop."""
        async with self.changed:
            self.changed.notify_all()

    def next_seq(self, kind: str) -> int:
        """The next number for messages of `kind`."""
        self._sequence[kind] += 1
        return self._sequence[kind]

    def take_samples(self, batch: SampleBatch, payload: bytes) -> Ack | None:
        """Store or refuse a batch; None if too many wait, so that the device keeps it."""
        sender = Sender(batch.device, batch.session, batch.seq)
        try:
            images = self._admit(batch)
            is_known = self.ledger.knows(batch)
            # What came before does not say where the device is now.
            cohort = self.cohorts.last_of(batch) if is_known else self.cohorts.of(batch)
        except WireError as error:
            return self.refuse_samples(sender, error.code, samples=batch.count)
        if cohort.pending >= self.settings.pending_limit:
            self.counters["not-stored"] += 1
            return None
        stored = self.ledger.store(batch, cohort.name, payload)
        if stored is None:
            self.counters["duplicates"] += 1
        else:
            cohort.push(stored, images)
        self._active[cohort.name] = None
        self.settlement.wait(cohort.name, batch.device, batch.session)
        if self.is_done_with(batch.device, batch.session):
            return self.settle(batch.device, batch.session)
        return self._ack(batch.device, batch.session, cohort)

    def refuse_samples(self, sender: Sender, code: RefusalCode, *, samples: int = 0) -> Ack:
        """Book a refusal and tell the device."""
        self.counters[f"refused:{code}"] += 1
        log.warning("samples.refused", device=sender.device, seq=sender.seq, code=str(code))
        device, session = sender.device, sender.session
        self.ledger.refuse(device, session, sender.seq, code, samples=samples)
        self._activate_cohorts_of(device)
        if not self.settlement.is_waiting(device, session):
            self.settlement.settle(device, session, self.ledger.stored_seq(device, session))
        return self._ack(device, session, None)

    def refuse(self, error: WireError, payload: bytes, *, device: str | None) -> Ack | None:
        """Count what cannot be used; an ack if it is known whose sample batch it was."""
        sender = read_sender(payload) if device else None
        if sender is not None and sender.device == device and sender.seq:
            return self.refuse_samples(sender, error.code)
        self.counters[f"refused:{error.code}"] += 1
        log.warning("message.refused", device=device, code=str(error.code), detail=str(error))
        return None

    def take_state(self, state: State) -> None:
        """Note a device's birth or end; a `lost` of another session than its own is stale."""
        known = self.states.get(state.device)
        if state.status == "lost" and known is not None and known.session != state.session:
            return
        if known is not None or len(self.states) < MAX_DEVICES:
            self.states[state.device] = state
            if state.status == "ready" and state.model == self.edge.digest:
                self.cohorts.welcome(state)
            self._activate_cohorts_of(state.device)
            log.info("device.state", device=state.device, status=state.status)

    def take_telemetry(self, telemetry: Telemetry) -> None:
        """Keep a device's last reading."""
        if telemetry.device in self.telemetry or len(self.telemetry) < MAX_DEVICES:
            self.telemetry[telemetry.device] = telemetry

    @property
    def has_work(self) -> bool:
        """Whether a cohort may want a step or a revert, or a device waits for its settling ack."""
        return (
            bool(self._active or self.cohorts.beginning)
            or self.settlement.has_waiting
            or self.is_revert_waiting
        )

    def next_work(self) -> Work | None:
        """The next step, cohorts taking turns; what expires is booked on the way.

        Before it, new domains get what they wait for: after another step it would be too late.
        """
        self._active.update(dict.fromkeys(self.cohorts.hand_down()))
        while self._active:
            name = next(iter(self._active))
            del self._active[name]
            cohort = self.cohorts[name]
            if cohort.models.origin is not None:
                continue  # it is active again when it has its models
            plan = self._plan(cohort)
            if plan.expire:
                _, taken = cohort.peek(plan.expire)
                self.ledger.use(name, taken, fate="expired")
                cohort.use(plan.expire)
            if plan.learn:
                self._active[name] = None
                return cohort.work(
                    plan,
                    replay=self.settings.method.replay,
                    seed=self.settings.seed,
                    shape=self.edge.manifest.input.shape,
                )
        return None

    def commit(self, work: Work, step: Step) -> StoredVersion | None:
        """Book a finished step with its models and version, all or nothing."""
        version = self.issuer.follow(work, step)
        self.counters["steps"] += 1
        verdict = step.verdict
        if verdict is not None and not verdict.passes:
            self.counters[f"versions-withheld:{verdict.reason}"] += 1
        return version

    def is_idle(self, cohort: Cohort) -> bool:
        """Whether nothing happens to the cohort's pending samples until more come."""
        return cohort.models.origin is None and self._plan(cohort).is_idle

    def is_done_with(self, device: str, session: str) -> bool:
        """Whether every cohort that a session brought samples for is idle."""
        names = self.settlement.cohorts_of(device, session)
        return all(self.is_idle(self.cohorts[name]) for name in names)

    def settle(self, device: str, session: str) -> Ack:
        """An ack that says: nothing more will come of what is stored, until more comes."""
        *_, last = self.settlement.cohorts_of(device, session)
        self.settlement.settle(device, session, self.ledger.stored_seq(device, session))
        return self._ack(device, session, self.cohorts[last])

    def _plan(self, cohort: Cohort) -> Plan:
        policy = self.settings.method.policy
        may_end = 0 < cohort.pending < policy.batch
        return plan_step(policy, cohort.pending, has_ended=may_end and self._has_ended(cohort))

    def _activate_cohorts_of(self, device: str) -> None:
        fed = [name for name, cohort in self.cohorts.items() if device in cohort.members]
        self._active.update(dict.fromkeys(fed))

    def _has_ended(self, cohort: Cohort) -> bool:
        """Whether every device that fed the cohort has stopped and all it sent is here."""
        states = [self.states.get(device) for device in cohort.members]
        return all(
            state is not None
            and state.status == "stopped"
            and self.ledger.stored_seq(state.device, state.session) >= state.last_seq
            for state in states
        )

    def _admit(self, batch: SampleBatch) -> Pixels:
        return admit(batch, model=self.edge.digest, manifest=self.edge.manifest)

    def _ack(self, device: str, session: str, cohort: Cohort | None) -> Ack:
        stay = self.cohorts.placement.told(device, session)
        return Ack(
            device=device,
            session=self.session,
            seq=self.next_seq("ack"),
            clock_ns=self.wall_ns(),
            model=self.edge.digest,
            of_session=session,
            stored_seq=self.ledger.stored_seq(device, session),
            settled_seq=self.settlement.settled_seq(device, session),
            version=cohort.version if cohort else 0,
            drifts=stay.drifts if stay else msgspec.UNSET,
            domain=stay.domain if stay else msgspec.UNSET,
            refused=self.ledger.refusals(device, session),
        )
