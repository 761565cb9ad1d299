"""Issues versions: what a step led to, or a revert goes back to, signed and booked whole.

The ledger first, then memory: what fails on the disk has not happened.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from driftwell.cloud.adaptation import AdaptedState
from driftwell.cloud.cohort import Cohort, Work, encode_models
from driftwell.cloud.gate import GateVerdict
from driftwell.cloud.learner import CohortModels, Step
from driftwell.cloud.ledger import DIVERGED, Ledger
from driftwell.cloud.publisher import Lineage, make_manifest, make_revert
from driftwell.cloud.tables import RevertRequest, StoredVersion
from driftwell.messages.delta import Delta, apply_delta
from driftwell.messages.errors import DeltaError, RefusalCode
from driftwell.messages.head import Manifest
from driftwell.messages.signature import pack_signature
from driftwell.messages.signing import read_manifest, sign_manifest

DAY_NS: Final = 86_400 * 10**9

log = structlog.get_logger()


class Issuer:
    """Makes the versions of one cloud. A step and a revert must not overlap (`learn_loop`)."""

    def __init__(
        self,
        lineage: Lineage,
        *,
        ledger: Ledger,
        source: CohortModels,
        key: Ed25519PrivateKey,
        expiry_days: float,
        wall_ns: Callable[[], int],
    ) -> None:
        self._lineage = lineage
        self._ledger = ledger
        self._source = source
        self._key = key
        self._lifetime_ns = int(expiry_days * DAY_NS)
        self._wall_ns = wall_ns

    def follow(self, work: Work, step: Step) -> StoredVersion | None:
        """Book a finished step with its models and version; None if it made no version.

        A step that is not finite takes the cohort back to the source, without a version.
        """
        cohort = work.cohort
        if not step.is_finite:
            log.error("cohort.diverged", cohort=cohort.name)
            self._book(work, self._source, DIVERGED, None)
            return None
        if step.verdict is not None and not step.verdict.passes:
            _log_withheld(cohort, step.verdict)
        if step.models.edge.arrays is cohort.models.edge.arrays:
            self._book(work, step.models, "trained", None)
            return None
        manifest = make_manifest(
            self._lineage,
            step.models.edge.arrays,
            cohort=cohort.name,
            version=cohort.version + 1,
            parent=self._parent(cohort),
            created_ns=self._wall_ns(),
            lifetime_ns=self._lifetime_ns,
            newest_sample_ns=max(batch.clock_ns for batch, _ in work.taken),
            trained_samples=step.models.samples,
            batches=[batch.name for batch, _ in work.taken],
            delta=step.delta,
        )
        if manifest is None:
            self._book(work, step.models, "trained", None)
            return None
        version = self._sign(manifest, cohort)
        self._book(work, step.models, "trained", version)
        cohort.version, cohort.result = version.version, version.result
        return version

    def begin(self, cohort: Cohort, start: tuple[CohortModels, Delta]) -> StoredVersion | None:
        """Give a cohort its first version before it has sent anything; None if it is the source."""
        models, delta = start
        now_ns = self._wall_ns()
        manifest = make_manifest(
            self._lineage,
            models.edge.arrays,
            cohort=cohort.name,
            version=cohort.version + 1,
            parent=self._parent(cohort),
            created_ns=now_ns,
            lifetime_ns=self._lifetime_ns,
            newest_sample_ns=now_ns,
            trained_samples=0,
            batches=(),
            delta=delta,
        )
        if manifest is None:
            return None
        version = self._sign(manifest, cohort)
        self._ledger.use(
            cohort.name, [], fate="trained", models=encode_models(models), version=version
        )
        cohort.models = models
        cohort.version, cohort.result = version.version, version.result
        return version

    def revert(self, cohort: Cohort, request: RevertRequest) -> StoredVersion:
        """Carry a revert out: a new version with the bits of an earlier one.

        Raises:
            WireError: if the earlier version is not there or damaged; nothing has changed.
        """
        target = self._target(request)
        manifest = make_revert(
            self._lineage,
            target,
            cohort=cohort.name,
            version=cohort.version + 1,
            parent=self._parent(cohort),
            created_ns=self._wall_ns(),
            lifetime_ns=self._lifetime_ns,
        )
        models = self._models_of(manifest, cohort.models)
        version = self._sign(manifest, cohort)
        self._ledger.answer_revert(request, models=encode_models(models), version=version)
        cohort.models = models
        cohort.version, cohort.result = version.version, version.result
        return version

    def renewed(self, version: StoredVersion) -> StoredVersion:
        """The version, signed anew if half of its time is over; only that it ends later changes.

        So a device that lost its state gets it, however long ago it was made.
        """
        manifest = read_manifest(version.manifest)
        now_ns = self._wall_ns()
        if manifest.expires_ns - now_ns > self._lifetime_ns // 2:
            return version
        manifest = msgspec.structs.replace(manifest, expires_ns=now_ns + self._lifetime_ns)
        encoded, signature = sign_manifest(manifest, self._key)
        version = replace(version, manifest=encoded, signature=signature)
        self._ledger.renew(version)
        return version

    def _target(self, request: RevertRequest) -> Manifest | None:
        if request.version == 0:
            return None
        stored = self._ledger.version(request.cohort, request.version)
        if stored is None:
            raise DeltaError(f"there is no version {request.version}", RefusalCode.OLDER_VERSION)
        return read_manifest(stored.manifest)

    def _models_of(self, manifest: Manifest, before: CohortModels) -> CohortModels:
        """Where learning goes on after a revert.

        The edge model has the version's bits. The state it had before rounding, its momentum
        and the foundation model's state of that time are not kept: they begin anew.
        """
        if manifest.result == self._lineage.source_digest:
            return replace(self._source, steps=before.steps, targets=before.targets)
        return replace(
            self._source,
            edge=AdaptedState(apply_delta(self._lineage.source, manifest.delta), {}),
            steps=before.steps,
            samples=manifest.provenance.trained_samples,
            targets=before.targets,
        )

    def _parent(self, cohort: Cohort) -> str:
        return cohort.result or self._lineage.source_digest

    def _sign(self, manifest: Manifest, cohort: Cohort) -> StoredVersion:
        if cohort.signature is not None:
            manifest = msgspec.structs.replace(manifest, signature=pack_signature(cohort.signature))
        encoded, signature = sign_manifest(manifest, self._key)
        return StoredVersion(manifest.cohort, manifest.version, manifest.result, encoded, signature)

    def _book(
        self, work: Work, models: CohortModels, fate: str, version: StoredVersion | None
    ) -> None:
        cohort = work.cohort
        self._ledger.use(
            cohort.name, work.taken, fate=fate, models=encode_models(models), version=version
        )
        cohort.models = models
        cohort.use(work.plan.learn)
        self._ledger.discard(cohort.name, before_id=cohort.oldest_batch_id)


def _log_withheld(cohort: Cohort, verdict: GateVerdict) -> None:
    log.warning(
        "version.withheld",
        cohort=cohort.name,
        reason=verdict.reason,
        loss_change_nats=round(verdict.loss_change_nats, 4),
        standard_error_nats=round(verdict.standard_error_nats, 4),
        diversity=round(verdict.diversity, 3),
    )
