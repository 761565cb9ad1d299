"""All cohorts of one cloud, and their domains, by name: found, made, and built again."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec

from driftwell.cloud.cohort import Cohort, decode_models, encode_models
from driftwell.cloud.learner import CohortModels, Learner, Origin
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.placement import Placement, better_known
from driftwell.cloud.settings import CloudSettings
from driftwell.messages.codec import decode
from driftwell.messages.errors import MalformedError, RefusalCode
from driftwell.messages.images import Pixels
from driftwell.messages.names import domain_name
from driftwell.messages.samples import SampleBatch
from driftwell.messages.signature import Signature, unpack_signature
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
        self._batch = settings.method.policy.batch
        self._learner = learner
        self._ledger = ledger
        self._admit = admit

    def restore(self) -> None:
        """Rebuild every cohort from the ledger."""
        newest: dict[str, tuple[int, SampleBatch, str]] = {}
        for name in self._ledger.cohorts():
            for row_id, message in self._restore_cohort(name):
                if row_id >= newest.get(message.device, (0,))[0]:
                    newest[message.device] = (row_id, message, name)
        for _, message, name in sorted(newest.values(), key=lambda one: one[0]):
            if not isinstance(message.signature, msgspec.UnsetType):
                self.placement.remember(message, name)
        for version in self._ledger.newest_versions():
            if version.cohort in self:
                self[version.cohort].version = version.version
                self[version.cohort].result = version.result

    def _restore_cohort(self, name: str) -> Iterator[tuple[int, SampleBatch]]:
        """Its models and samples; yields the latter with their places in the ledger."""
        cohort = self[name] = self._empty(name)
        saved = self._ledger.models(name)
        if saved is not None:
            cohort.models = decode_models(saved, self._learner.source)
        elif self._learner.start is not None:  # killed before it could begin
            self.beginning[name] = None
        for batch in self._ledger.batches(name):
            message = decode(batch.payload, limit_bytes=len(batch.payload))
            if isinstance(message, SampleBatch):
                cohort.push(batch, self._admit(message))
                _look(cohort, message)
                yield batch.id, message

    def last_of(self, batch: SampleBatch) -> Cohort:
        """The cohort that the newest samples of a batch's device went to; nothing is placed.

        Raises:
            WireError: if there is no room for the device's cohort.
        """
        stay = self.placement.told(batch.device, batch.session)
        name = stay.name if stay else batch.cohort
        return self.get(name) or self.make(name)

    def of(self, batch: SampleBatch) -> Cohort:
        """The cohort, or the domain of one, that a sample batch belongs to; a new one is made.

        A new domain begins with what the one learns that its first device came from.

        Raises:
            WireError: if there is no room for another, or the batch's signature is none.
        """
        last = self.placement.told(batch.device, batch.session)
        mine = self._signatures(batch.cohort)
        name = self.placement.place(batch, mine, has_room=len(self) < self._limit)
        cohort = self.get(name) or self._open(name, self.get(last.name) if last else None)
        _look(cohort, batch)
        return cohort

    def _open(self, name: str, origin: Cohort | None) -> Cohort:
        """Open a domain; what it is to begin with is on the disk before it is used."""
        if origin is None:
            cohort = self.make(name)
            if self._learner.start is not None:
                self.beginning[name] = None
            return cohort
        owed = origin.models.steps + origin.pending // self._batch
        models = replace(self._learner.source, origin=Origin(origin.name, owed))
        self._ledger.use(name, [], fate="trained", models=encode_models(models))
        cohort = self.make(name)
        cohort.models = models
        return cohort

    def _signatures(self, cohort: str) -> dict[str, Signature]:
        names = (domain_name(cohort, number) for number in range(self.placement.settings.limit))
        domains = (self[name] for name in names if name in self)
        return {one.name: one.signature for one in domains if one.signature is not None}

    def hand_down(self) -> list[str]:
        """Give the domains that wait for another one's models those that are there; their names.

        Not what that one has learned by now, but what the samples lead to that it had when the
        domain was opened: a cloud that is behind makes the same versions as one that is not. So
        this is asked before each step, and one that waits may itself be waited for.
        """
        given: list[str] = []
        waiting = [cohort for cohort in self.values() if cohort.models.origin is not None]
        while waiting:
            ready = [(one, self._inheritance(one)) for one in waiting]
            for cohort, models in ready:
                if models is not None:
                    self._ledger.use(cohort.name, [], fate="trained", models=encode_models(models))
                    cohort.models = models
                    given.append(cohort.name)
            waiting = [one for one, models in ready if models is None]
            if len(waiting) == len(ready):
                break
        return given

    def _inheritance(self, cohort: Cohort) -> CohortModels | None:
        """What a domain begins with; None: it has begun, or what it waits for is not there."""
        awaited = cohort.models.origin
        if awaited is None:
            return None
        origin = self[awaited.name]
        is_learned = origin.models.steps >= awaited.steps or origin.pending < self._batch
        if origin.models.origin is not None or not is_learned:
            return None
        return replace(origin.models, steps=0, targets=self._learner.source.targets)

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
