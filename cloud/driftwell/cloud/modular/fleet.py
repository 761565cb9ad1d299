"""Pure. The devices of a modular model: what is known of each, and when one is planned for anew.

A device is planned for when it has said what its data use, when its limits fall below what its
sub-model takes or have stayed risen for a while, when its data use other modules than they did,
and when modules it runs have new versions. Nobody is planned for by the clock alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.cloud.modular.catalogue import Address, Catalogue
from driftwell.cloud.modular.importance import (
    Importance,
    moved_share,
    unpack_class_shares,
    unpack_importance,
    worth_fetching,
)
from driftwell.cloud.modular.layout import Layout
from driftwell.cloud.modular.limits import PressureSettings, latency_scale, present_limits
from driftwell.cloud.modular.manifests import chosen_of, has_news, is_half_over, is_served
from driftwell.cloud.modular.planner import (
    DOWNLOAD,
    LATENCY,
    LimitWatch,
    ModulePlan,
    ReplanSettings,
    watch_limits,
    watch_plan,
)
from driftwell.messages.errors import InfeasibleBudgetError
from driftwell.messages.state import ModelLimits
from driftwell.messages.submodel import SubModelManifest
from driftwell.messages.telemetry import Telemetry

NO_LIMITS: Final = ModelLimits()
KEEP_COSTS: Final = 4
"""Sub-models of a device whose costs are known: those it may go back to by itself."""
Reason = Literal["", "first", "fallen", "risen", "importance", "versions"]


class FleetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When and how devices are planned for."""

    replan: ReplanSettings = ReplanSettings()
    pressure: PressureSettings = PressureSettings()
    least_images: Annotated[int, msgspec.Meta(ge=1)] = 64
    """Images behind a device's importance before it is planned for."""
    least_importance: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.02
    """Below this a device's data do not need a module: it is not fetched, whatever the limits."""
    moved: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.25
    """Share of the importance, mean over layers, that must have gone to other modules."""
    refresh_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """How long after a sub-model new versions of its modules wait, so that they come together."""


@dataclass(slots=True)
class Member:
    """What is known of one device."""

    declared: ModelLimits = NO_LIMITS
    limits: Mapping[str, float] = field(default_factory=dict)
    """To plan with."""
    importance: Importance | None = None
    class_shares: NDArray[np.float64] | None = None
    """Of its classes among its answers, (C,), with sum 1."""
    held: Mapping[Address, int] = field(default_factory=dict)
    """The newest version of each module on its disk."""
    scale: float = 1.0
    """Milliseconds there for one here."""
    manifest: SubModelManifest | None = None
    """Its newest sub-model."""
    running: int = 0
    """The version of the sub-model that answers there, as it said; 0: the fallback."""
    costs: dict[int, Mapping[str, float]] = field(default_factory=dict)
    """What its newest sub-models take, by version, by the cloud's measure."""
    watch: LimitWatch | None = None
    planned_for: Importance | None = None
    refused: InfeasibleBudgetError | None = None
    """Why no sub-model was found; it is not looked for again as long as that holds."""

    @property
    def is_refused(self) -> bool:
        """Whether there is still no sub-model within the present limits."""
        if self.refused is None:
            return False
        least = {name: costs[name] for name, costs in self.refused.smallest.items()}
        least.pop(DOWNLOAD, None)  # it depends on what the device holds, which changes
        is_too_low = any(self.limits.get(name, math.inf) < cost for name, cost in least.items())
        return is_too_low or self.refused.limits == self.limits


class Fleet:
    """The devices, by name; not thread safe."""

    def __init__(self, layout: Layout, settings: FleetSettings, *, limit: int) -> None:
        """Begin without devices; more than `limit` are not remembered, and not planned for."""
        self._layout = layout
        self._whole, self._fallback = layout.whole, layout.spent(layout.fallback)
        self._settings = settings
        self._limit = limit
        self.members: dict[str, Member] = {}

    def restore(self, manifest: SubModelManifest) -> None:
        """Go on with a device's sub-model after a restart; what its data use it will say again."""
        member = self._member(manifest.device)
        if member is not None:
            costs = self._layout.spent(chosen_of(manifest))
            member.manifest = manifest
            member.costs = {manifest.version: costs}
            # Its manifest counts milliseconds in the device's, all here is in the cloud's.
            member.scale = latency_scale(manifest.costs.get(LATENCY), costs[LATENCY], 1.0)
            planned = {
                name: limit / member.scale if name == LATENCY else limit
                for name, limit in manifest.limits.items()
            }
            member.watch = LimitWatch(costs, planned)

    def born(self, device: str, declared: ModelLimits) -> None:
        """Take a birth document's limits."""
        member = self._member(device)
        if member is not None:
            member.declared = declared

    def read(self, telemetry: Telemetry, *, now_s: float) -> None:
        """Take a reading.

        Args:
            telemetry: With `modular`.
            now_s: Of a clock that does not go back.

        Raises:
            ArrayError: if importance or class shares are not those of this model; what else it
                says does not count.
            WireError: `implausible-limits`; the limits to plan with stay as they were.
        """
        modular = telemetry.modular
        member = self._member(telemetry.device)
        if member is None or isinstance(modular, msgspec.UnsetType):
            return
        if modular.importance and modular.images >= self._settings.least_images:
            importance = unpack_importance(modular.importance, self._layout.sizes)
            if not isinstance(modular.class_shares, msgspec.UnsetType):
                classes = self._layout.classes
                member.class_shares = unpack_class_shares(modular.class_shares, classes)
            member.importance = importance
        member.held = _held(modular.held, self._layout.sizes)
        declared = _over(member.declared, modular.limits)
        member.running = modular.submodel
        running = self._running(member)
        if running is not None:
            measured = telemetry.inference.latency_ms_p50
            member.scale = latency_scale(measured, running[LATENCY], member.scale)
        member.limits = present_limits(
            declared,
            telemetry.resources,
            running=running or self._fallback,
            whole=self._whole,
            scale=member.scale,
            settings=self._settings.pressure,
        )
        if member.watch is not None:
            member.watch = watch_limits(
                self._settings.replan, member.watch, member.limits, now_s=now_s
            )

    def why(self, device: str, catalogue: Catalogue, *, now_ns: int) -> Reason:
        """Why a device needs another sub-model now; empty: it does not.

        Args:
            device: One of `members`.
            catalogue: The modules.
            now_ns: The clock that manifests are dated by.
        """
        member = self.members[device]
        if member.importance is None or member.is_refused:
            return ""
        if member.manifest is None:
            return "first"
        if member.watch is not None and member.watch.is_due:
            return member.watch.reason
        if member.planned_for is None:  # after a restart: as if it had been planned for this
            member.planned_for = member.importance
        if moved_share(member.planned_for, member.importance) > self._settings.moved:
            return "importance"
        return "versions" if self._is_to_be_refreshed(member, catalogue, now_ns) else ""

    def wanted(self, device: str) -> Importance:
        """The importance to plan with: what is below `least_importance` counts nothing."""
        member = self.members[device]
        if member.importance is None:
            raise ValueError(f"{device} has not said what its data use")
        return worth_fetching(member.importance, self._settings.least_importance)

    def planned(self, device: str, plan: ModulePlan, manifest: SubModelManifest | None) -> None:
        """Note a plan; with `manifest` None it came to the sub-model the device has."""
        member = self.members[device]
        member.watch = watch_plan(plan)
        member.planned_for = member.importance
        member.refused = None
        member.manifest = manifest or member.manifest
        if member.manifest is not None:
            member.costs[member.manifest.version] = member.watch.costs
        while len(member.costs) > KEEP_COSTS:
            del member.costs[min(member.costs)]

    def refused(self, device: str, error: InfeasibleBudgetError) -> None:
        """Note that no sub-model is within a device's limits."""
        self.members[device].refused = error

    def expiring(self, now_ns: int) -> Iterator[str]:
        """The devices whose sub-model is to be signed anew, so that who lost it may take it."""
        for device, member in self.members.items():
            if member.manifest is not None and is_half_over(member.manifest, now_ns):
                yield device

    def _member(self, device: str) -> Member | None:
        if device not in self.members and len(self.members) >= self._limit:
            return None
        return self.members.setdefault(device, Member())

    def _running(self, member: Member) -> Mapping[str, float] | None:
        """What the sub-model that answers there takes; None: one that is not known."""
        if member.running == 0:
            return self._fallback
        return member.costs.get(member.running)

    def _is_to_be_refreshed(self, member: Member, catalogue: Catalogue, now_ns: int) -> bool:
        """Whether it is time for new versions of the modules of a device's sub-model.

        Who still fetches is let finish: if what it fetches changed all the time, it never would.
        """
        manifest = member.manifest
        if manifest is None:
            return False
        waited_s = (now_ns - manifest.created_ns) / 1e9
        if 0 <= waited_s < self._settings.refresh_s:  # below 0: a clock went back
            return False
        has_it = member.running == manifest.version
        return has_news(manifest, catalogue) and (has_it or not is_served(manifest, catalogue))


def _held(held: Sequence[Sequence[int]], sizes: Sequence[int]) -> dict[Address, int]:
    if [len(layer) for layer in held] != list(sizes):
        return {}
    return {
        (layer, module): number - 1
        for layer, numbers in enumerate(held)
        for module, number in enumerate(numbers)
        if number
    }


def _over(declared: ModelLimits, present: ModelLimits) -> ModelLimits:
    """The limits declared at birth, with those that are present in their place."""
    given = {
        name: value
        for name in ModelLimits.__struct_fields__
        if not isinstance(value := getattr(present, name), msgspec.UnsetType)
    }
    return msgspec.structs.replace(declared, **given)
