"""The running state of a modular model in the cloud: modules, devices, and what they ask for.

As with the consumer, loops (`loops.py`) wait and carry, and this object decides and books. All
of it runs in the event loop's thread, except the choice of modules and their refinement.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from driftwell.cloud.modular.aggregation import Arrays
from driftwell.cloud.modular.catalogue import Address, Catalogue, Update
from driftwell.cloud.modular.fleet import Fleet, Reason
from driftwell.cloud.modular.layout import Layout
from driftwell.cloud.modular.manifests import is_half_over, references
from driftwell.cloud.modular.planner import (
    DOWNLOAD,
    LATENCY,
    ModulePlan,
    ResourceCost,
    plan_modules,
    watch_plan,
)
from driftwell.cloud.modular.refiner import Refiner
from driftwell.cloud.modular.registry import ModuleRegistry
from driftwell.cloud.modular.settings import ModuleSettings
from driftwell.cloud.modular.tables import StoredSubModel
from driftwell.cloud.modular.updates import delta_of
from driftwell.messages.blob import Fetch
from driftwell.messages.envelope import MAX_COUNT
from driftwell.messages.errors import ArrayError, InfeasibleBudgetError, RefusalCode, WireError
from driftwell.messages.signing import read_submodel, sign_manifest
from driftwell.messages.state import State
from driftwell.messages.submodel import SubModelManifest
from driftwell.messages.telemetry import Telemetry
from driftwell.messages.update import ModuleUpdate

MAX_DEVICES: Final = 10_000
DAY_NS: Final = 86_400 * 10**9

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Derivation:
    """A device that is planned for."""

    device: str
    reason: Reason
    choose: Callable[[], ModulePlan]
    """Takes up to a second or two; may run in another thread."""


class ModuleKeeper:
    """State and decisions of one cloud for a modular model."""

    def __init__(
        self,
        settings: ModuleSettings,
        *,
        group: str,
        model: str,
        modules: dict[Address, Arrays],
        layout: Layout,
        registry: ModuleRegistry,
        key: Ed25519PrivateKey,
        expiry_days: float,
        wall_ns: Callable[[], int],
        counters: Counter[str],
    ) -> None:
        """Go on where the registry is.

        Args:
            settings: How it decides.
            group: Of devices and cloud.
            model: Digest of the modular bundle.
            modules: The bundle's, which are their version 0.
            layout: What modules cost, and the fallback.
            registry: Open.
            key: Signs sub-models.
            expiry_days: How long one may be taken.
            wall_ns: Nanoseconds since the Unix epoch.
            counters: Of the consumer.
        """
        self.settings = settings
        self.registry = registry
        self.requests: dict[str, Fetch] = {}
        """What devices wait for, by device; a newer question takes the place of an older one."""
        self.refiner: Refiner | None = None
        """Where there are images to refine the fleet's sub-models with."""
        self.unpublished: set[str] = set()
        """Devices whose newest sub-model the broker has not answered for."""
        self.catalogue = Catalogue(modules, settings.fold)
        self.fleet = Fleet(layout, settings.fleet, limit=MAX_DEVICES)
        self.counters = counters
        self._group, self._model, self._key = group, model, key
        self._layout = layout
        self._lifetime_ns = int(expiry_days * DAY_NS)
        self._wall_ns = wall_ns
        self._touched: dict[str, None] = {}
        """Devices that said something since they were last looked at, in turn."""
        for address, versions in registry.versions().items():
            self.catalogue.restore(address, versions)
        for piece in registry.retired():
            self.catalogue.retire(piece)
        for stored in registry.submodels():
            self.fleet.restore(read_submodel(stored.manifest))

    def take_state(self, state: State) -> None:
        """Note a birth document's limits."""
        if state.model == self._model and not isinstance(state.model_limits, msgspec.UnsetType):
            self.fleet.born(state.device, state.model_limits)

    def take_telemetry(self, telemetry: Telemetry, payload: bytes) -> None:
        """Note what a device's data use, and its limits; what makes no sense is quarantined."""
        if telemetry.model != self._model:
            self.counters[f"refused:{RefusalCode.WRONG_MODEL}"] += 1
            return
        try:
            self.fleet.read(telemetry, now_s=self._wall_ns() / 1e9)
        except WireError as error:
            self._refuse(telemetry.device, error, payload)
            return
        if telemetry.device in self.fleet.members:
            self._touched[telemetry.device] = None
        else:
            self.counters["readings-beyond-limit"] += 1  # of more devices than MAX_DEVICES

    def take_fetch(self, fetch: Fetch) -> None:
        """Note which pieces a device lacks; who asks again goes to the end of the line."""
        self.requests.pop(fetch.device, None)
        if fetch.wants and len(self.requests) < MAX_DEVICES:
            self.requests[fetch.device] = fetch

    def take_update(self, update: ModuleUpdate, payload: bytes) -> None:
        """Fold in what a device learned of a module; what cannot be used is quarantined."""
        device, session, seq = update.device, update.session, update.seq
        if self.registry.knows_update(device, session, seq):
            self.counters["updates-repeated"] += 1
            return
        try:
            address, version = self.catalogue.find(update.module)
            if version.number != update.base_version:
                raise ArrayError(
                    f"piece {update.module[:12]} is version {version.number}, not "
                    f"{update.base_version}"
                )
            learned = Update(version.number, delta_of(update, version.arrays), update.importance)
            contribution = self.catalogue.read(address, learned)
            made = self.catalogue.folded(address, [contribution])
        except WireError as error:
            self._refuse(device, error, payload, update=(session, seq))
            return
        folded = None if made is None else (address, made)
        self.registry.fold(device, session, seq, folded, keep=self.settings.fold.keep)
        if made is not None:
            self.catalogue.add(address, made)
        self.counters["updates-folded"] += 1
        log.info("module.folded", device=device, layer=address[0], module=address[1],
                 version=self.catalogue.version(address), age=contribution.age)  # fmt: skip

    def next_derivation(self) -> Derivation | None:
        """The next device that needs another sub-model, devices taking turns."""
        while self._touched:
            device = next(iter(self._touched))
            del self._touched[device]
            reason = self.fleet.why(device, self.catalogue, now_ns=self._wall_ns())
            if reason:
                return Derivation(device, reason, self._choice(device))
        return None

    def derived(self, derivation: Derivation, plan: ModulePlan) -> StoredSubModel | None:
        """Sign and book what a derivation came to; None: the device has that sub-model already."""
        device = derivation.device
        member = self.fleet.members[device]
        layers = references(plan.modules, self.catalogue)
        if member.manifest is not None and member.manifest.layers == layers:
            self.fleet.planned(device, plan, None)
            return None
        now_ns = self._wall_ns()
        newest = 0 if member.manifest is None else member.manifest.version
        manifest = SubModelManifest(
            group=self._group,
            device=device,
            model=self._model,
            version=min(1 + max(newest, member.running), MAX_COUNT),
            created_ns=now_ns,
            expires_ns=now_ns + self._lifetime_ns,
            layers=layers,
            costs=_in_device_units(watch_plan(plan).costs, member.scale),
            limits=_in_device_units(plan.limits, member.scale),
        )
        stored = self._sign(manifest)
        self.fleet.planned(device, plan, manifest)
        self.counters["submodels-derived"] += 1
        log.info(
            "submodel.derived", device=device, version=manifest.version, reason=derivation.reason,
            modules=sum(len(layer) for layer in plan.modules), method=plan.method,
            **{name: round(cost, 3) for name, cost in plan.costs.items()},
        )  # fmt: skip
        return stored

    def infeasible(self, derivation: Derivation, error: InfeasibleBudgetError) -> None:
        """Note that a device's limits leave room for no sub-model; it keeps the one it has."""
        self.fleet.refused(derivation.device, error)
        self._refuse(derivation.device, error, b"")

    def refuse_fetch(self, fetch: Fetch, errors: Sequence[WireError]) -> None:
        """Note pieces that cannot be served: the device's sub-model is older than what is kept.

        One for all pieces of a question, so that no question costs many commits.
        """
        first = errors[0]
        detail = f"{len(errors)} of {len(fetch.wants)} pieces cannot be served: {first}"
        self._refuse(fetch.device, WireError(detail, first.code), b"")

    def submodel(self, device: str) -> StoredSubModel | None:
        """A device's newest sub-model, signed anew if half its time is over; None: it has none."""
        member = self.fleet.members.get(device)
        now_ns = self._wall_ns()
        if member is None or member.manifest is None or not is_half_over(member.manifest, now_ns):
            return self.registry.submodel(device)
        renewed = msgspec.structs.replace(
            member.manifest, created_ns=now_ns, expires_ns=now_ns + self._lifetime_ns
        )
        stored = self._sign(renewed)
        member.manifest = renewed
        return stored

    def expiring(self) -> list[str]:
        """The devices whose sub-model is to be signed anew, by `submodel`."""
        return list(self.fleet.expiring(self._wall_ns()))

    def _sign(self, manifest: SubModelManifest) -> StoredSubModel:
        encoded, signature = sign_manifest(manifest, self._key)
        stored = StoredSubModel(manifest.device, manifest.version, encoded, signature)
        self.registry.put_submodel(stored)
        return stored

    def _choice(self, device: str) -> Callable[[], ModulePlan]:
        member = self.fleet.members[device]
        fetched = ResourceCost([
            np.array([
                self.catalogue.fetch_bytes((layer, module), member.held.get((layer, module)))
                for module in range(size)
            ], np.float64)
            for layer, size in enumerate(self._layout.sizes)
        ])  # fmt: skip
        return partial(
            plan_modules,
            self.fleet.wanted(device),
            {**self._layout.costs, DOWNLOAD: fetched},
            dict(member.limits),
            time_limit_s=self.settings.time_limit_s,
        )

    def _refuse(
        self,
        device: str,
        error: WireError,
        payload: bytes,
        *,
        update: tuple[str, int] | None = None,
    ) -> None:
        self.counters[f"refused:{error.code}"] += 1
        log.warning("module.refused", device=device, code=str(error.code), detail=str(error))
        try:
            self.registry.refuse(device, str(error.code), str(error), payload, update=update)
        except sqlite3.OperationalError as reason:  # with or without room on the disk: refused
            log.warning("quarantine.not-stored", error=str(reason))


def _in_device_units(amounts: Mapping[str, float], scale: float) -> dict[str, float]:
    """Milliseconds as the device counts them."""
    return {name: amount * scale if name == LATENCY else amount for name, amount in amounts.items()}
