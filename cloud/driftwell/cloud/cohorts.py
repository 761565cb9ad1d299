"""All cohorts of one cloud, and their domains, by name: found, made, and built again."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from driftwell.cloud.cohort import Cohort, decode_models, encode_models
from driftwell.cloud.learner import Learner
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.placement import Placement, better_known
from driftwell.cloud.settings import CloudSettings
from driftwell.messages.codec import decode
from driftwell.messages.errors import MalformedError, RefusalCode
from driftwell.messages.images import Pixels
from driftwell.messages.samples import SampleBatch
from driftwell.messages.signature import unpack_signature
from driftwell.messages.state import State


class Cohorts(dict[str, Cohort]):
    """By the name of the cohort, or of one of its domains."""

    def __init__(
        self,
        settings: CloudSettings,
        *,
        learner: Learner,
        ledger: Ledger,
        admit: Callable[[SampleBatch], Pixels],
    ) -> None:
        """Begin without any; `admit` gives a sample batch's images."""
        super().__init__()
        self.placement = Placement(settings.method.domains)
        self.beginning: dict[str, None] = {}
        """Cohorts without a version whose devices are to get the start state."""
        self._limit = settings.cohorts
        self._capacity = settings.method.replay.capacity
        self._learner = learner
        self._ledger = ledger
        self._admit = admit

    def restore(self) -> None:
        """Rebuild every cohort from the ledger."""
        newest: dict[str, tuple[int, SampleBatch, str]] = {}
        for name in self._ledger.cohorts():
            cohort = self[name] = self._empty(name)
            saved = self._ledger.models(name)
            if saved is not None:
                cohort.models = decode_models(saved, self._learner.source)
            for batch in self._ledger.batches(name):
                message = decode(batch.payload, limit_bytes=len(batch.payload))
                if isinstance(message, SampleBatch):
                    cohort.push(batch, self._admit(message))
                    _look(cohort, message)
                    if batch.id >= newest.get(batch.device, (0,))[0]:
                        newest[batch.device] = (batch.id, message, name)
        for _, message, name in sorted(newest.values(), key=lambda one: one[0]):
            if not isinstance(message.signature, msgspec.UnsetType):
                self.placement.remember(message, name)
        for version in self._ledger.newest_versions():
            if version.cohort in self:
                self[version.cohort].version = version.version
                self[version.cohort].result = version.result

    def of(self, batch: SampleBatch) -> Cohort:
        """The cohort, or the domain of one, that a sample batch belongs to; a new one is made.

        A new domain begins with what its first device's last one has learned.

        Raises:
            WireError: if there is no room for another, or the batch's signature is none.
        """
        known = {
            name: cohort.signature for name, cohort in self.items() if cohort.signature is not None
        }
        last = self.placement.told(batch.device, batch.session)
        name = self.placement.place(batch, known, has_room=len(self) < self._limit)
        cohort = self.get(name)
        if cohort is None:
            cohort = self.make(name)
            origin = self.get(last.name) if last else None
            if origin is not None:
                models = replace(origin.models, steps=0, targets=self._learner.source.targets)
                self._ledger.use(name, [], fate="trained", models=encode_models(models))
                cohort.models = models
            elif self._learner.start is not None:
                self.beginning[name] = None
        _look(cohort, batch)
        return cohort

    def welcome(self, state: State) -> None:
        """Make a device's cohort at its birth where there is a start state to give it."""
        if self._learner.start is None:
            return
        if state.cohort not in self and len(self) < self._limit:
            self.make(state.cohort)
            self.beginning[state.cohort] = None
        if state.cohort in self:
            self[state.cohort].members.add(state.device)

    def make(self, name: str) -> Cohort:
        """A new cohort, with the source's models.

        Raises:
            MalformedError: if there is no room for another.
        """
        if len(self) >= self._limit:
            raise MalformedError(
                f"no room for cohort {name!r}: the limit is {self._limit}",
                RefusalCode.WRONG_COHORT,
            )
        cohort = self[name] = self._empty(name)
        return cohort

    def _empty(self, name: str) -> Cohort:
        return Cohort(name, self._learner.source, capacity=self._capacity)


def _look(cohort: Cohort, batch: SampleBatch) -> None:
    if not isinstance(batch.signature, msgspec.UnsetType):
        cohort.signature = better_known(cohort.signature, unpack_signature(batch.signature))
