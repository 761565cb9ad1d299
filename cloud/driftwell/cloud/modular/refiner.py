"""When a fleet's sub-models are refined, and what becomes of it.

Once the sub-models of a fleet have stayed as they are for a while and there are new ones among
them, or devices whose images are of other classes than before, all are trained together on the
cloud's labelled images (`refinement`). Modules that gained by it get a new version; devices then
fetch the differences, as those of any version.
"""

import math
from typing import Final

import structlog

from driftwell.cloud.modular.catalogue import Catalogue, ModuleVersion
from driftwell.cloud.modular.fleet import Fleet, Member
from driftwell.cloud.modular.importance import moved_share
from driftwell.cloud.modular.manifests import chosen_of
from driftwell.cloud.modular.offline_settings import RefinementSettings
from driftwell.cloud.modular.refinement import Refined, Refinement, Source, split
from driftwell.cloud.modular.refining import Target
from driftwell.cloud.modular.registry import ModuleRegistry
from driftwell.cloud.modular.tables import RefinedFor
from driftwell.messages.digest import digest_bytes
from driftwell.messages.errors import ArrayError
from driftwell.models.modular.pieces import Arrays, moved_on

LONGEST_WAIT: Final = 10
"""Times `settle_s` that a new sub-model waits for the others to settle."""
MOST_DOUBLINGS: Final = 7

log = structlog.get_logger()


class Refiner:
    """Sees when it is time, and puts what came of it in place; not thread safe."""

    def __init__(
        self,
        settings: RefinementSettings,
        source: Source,
        *,
        fleet: Fleet,
        catalogue: Catalogue,
        registry: ModuleRegistry,
        keep: int,
    ) -> None:
        """Go on where the registry is.

        Args:
            settings: When and how.
            source: What the cloud trains with.
            fleet: Whose sub-models they are.
            catalogue: Of the modules.
            registry: Open.
            keep: Versions of a module whose arrays are kept.

        Raises:
            SettingsError: as `split`.
        """
        split(source.data)  # so that too few images are told at once
        self.settings = settings
        self._source = source
        self._fleet, self._catalogue, self._registry = fleet, catalogue, registry
        self._keep = keep
        self._refined = registry.refined(source.name)
        self._seen: dict[str, str] = {}
        """Each device's modules, as they were at the last look."""
        self._changed_s = self._next_s = -math.inf
        self._new_s: float | None = None
        """Since when something is to be refined."""
        self._failures = self._number = 0

    def due(self, now_s: float) -> Refinement | None:
        """What is to be refined; None: nothing, or not yet. The clock must not go back."""
        devices = {name: target for name, one in self._fleet.members.items()
                   if (target := _target(one)) is not None}  # fmt: skip
        seen = {device: _mark(target) for device, target in devices.items()}
        if seen != self._seen:
            self._seen, self._changed_s = seen, now_s
        if not any(self._is_new(device, seen[device], one) for device, one in devices.items()):
            self._new_s = None
            return None
        self._new_s = now_s if self._new_s is None else self._new_s
        settle_s = self.settings.settle_s
        has_settled = now_s - self._changed_s >= settle_s
        if now_s < self._next_s or not (
            has_settled or now_s - self._new_s >= LONGEST_WAIT * settle_s
        ):
            return None
        self._number += 1
        catalogue = self._catalogue
        pieces = {address: catalogue.newest(address) for address in catalogue.addresses}
        return Refinement(
            pieces, devices, self._source, self.settings.training, self._number, catalogue.moved
        )

    def take(self, refinement: Refinement, refined: Refined, now_s: float) -> int:
        """Put new versions in place, and book them; how many there are.

        A module that has learned from a device meanwhile moves on by what refining changed.
        """
        versions = {}
        for address, version in refined.versions.items():
            began, newest = refinement.pieces[address], self._catalogue.newest(address)
            try:
                next_one = (
                    version if newest is began
                    else self._catalogue.moved(newest, _moved_on(newest, began, version))
                )  # fmt: skip
            except ArrayError as error:
                log.warning("module.not-refined", module=address, error=str(error))
                continue
            if next_one is not None:
                versions[address] = next_one
        done = {
            device: RefinedFor(_mark(target), target.class_shares)
            for device, target in refinement.devices.items()
        }
        self._registry.refine(self._source.name, done, versions, keep=self._keep)
        for address, version in versions.items():
            self._catalogue.add(address, version)
        self._refined = done
        self._failures = 0
        self._next_s = now_s + self.settings.rest_s
        return len(versions)

    def failed(self, now_s: float) -> float:
        """Note that a training came to no end; seconds until it is tried again."""
        wait_s = self.settings.rest_s * float(2 ** min(self._failures, MOST_DOUBLINGS))
        self._failures += 1
        self._next_s = now_s + wait_s
        return wait_s

    def _is_new(self, device: str, mark: str, target: Target) -> bool:
        """Whether it has other modules than were refined for it, or images of other classes."""
        before = self._refined.get(device)
        if before is None or before.mark != mark:
            return True
        return moved_share([before.class_shares], [target.class_shares]) > self.settings.moved


def _target(member: Member) -> Target | None:
    if member.manifest is None or member.class_shares is None:
        return None
    return Target(chosen_of(member.manifest), member.class_shares)


def _mark(target: Target) -> str:
    """Of a sub-model's modules, whatever their versions."""
    held = ";".join(",".join(map(str, sorted(layer))) for layer in target.modules)
    return digest_bytes(held.encode())[:16]


def _moved_on(newest: ModuleVersion, began: ModuleVersion, led_to: ModuleVersion) -> Arrays:
    return {
        name: moved_on(name, array, began.arrays[name], led_to.arrays[name])
        for name, array in newest.arrays.items()
    }
