"""When a fleet's sub-models are refined, and what becomes of it.

Once the sub-models of a fleet have stayed as they are for a while, with new ones among them, they
are trained together on the cloud's labelled images (`refining`). What modules learned is rounded
as any difference is, and judged with that rounding on images that were held out: only if
sub-models answer better by it, their modules get a new version. Devices then fetch the
differences, as those of any version.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Final

import msgspec
import numpy as np

from driftwell.cloud.modular.catalogue import Address, Catalogue, ModuleVersion
from driftwell.cloud.modular.fleet import Fleet, Member
from driftwell.cloud.modular.manifests import chosen_of
from driftwell.cloud.modular.offline_settings import RefinementSettings, RefiningSettings
from driftwell.cloud.modular.refining import Labelled, Prepare, Target, judge, refine
from driftwell.cloud.modular.registry import ModuleRegistry
from driftwell.messages.digest import digest_bytes
from driftwell.messages.errors import ArrayError, SettingsError
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import Arrays, read_module, write_module

HELD_OUT: Final = 8
"""Of so many images one is held out, to judge by."""
LEAST_SHARE: Final = 0.05
"""From this share on a class is one of a device's, when it is asked whether anything is new."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What the cloud trains with."""

    data: Labelled
    prepare: Prepare
    network: Callable[[], ModularNetwork]
    """Makes one with all modules, in whatever version."""
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """What came of it."""

    losses: tuple[float, float]
    """Mean over the sub-models on the images held out, nats: before, and after with rounding."""
    versions: Mapping[Address, ModuleVersion]
    """The next version of each module that changed; none if sub-models would not be better."""


@dataclass(frozen=True, slots=True, eq=False)
class Refinement:
    """One training, to be run in another thread."""

    network: ModularNetwork
    """Its own, with the newest modules."""
    pieces: Mapping[Address, ModuleVersion]
    """Those modules."""
    targets: Mapping[str, Target]
    """By their marks."""
    source: Source
    settings: RefiningSettings
    learned: Callable[[Address, Arrays], ModuleVersion | None]
    """The version that a module's new arrays lead to, rounded; None: to none."""

    def run(self, report: Callable[[int, int], None] = lambda *_: None) -> Refined:
        """Train, round and judge; `report` is that of `refining.refine`."""
        source, targets = self.source, list(self.targets.values())
        training, held_out = split(source.data)
        judged = partial(judge, self.network, held_out, source.prepare, targets, seed=source.seed)
        before = fmean(judged())
        refine(
            self.network, training, source.prepare, targets, self.settings,
            seed=source.seed, report=report,
        )  # fmt: skip
        try:
            versions = self._rounded()
        except ArrayError:  # not finite: a rate that was too high
            return Refined((before, math.inf), {})
        after = fmean(judged())
        return Refined((before, after), versions if after < before else {})

    def _rounded(self) -> dict[Address, ModuleVersion]:
        """What modules learned as their next versions, which are in the network then."""
        versions = {}
        for address in self._held():
            version = self.learned(address, read_module(self.network, *address))
            if version is not None:
                versions[address] = version
                write_module(self.network, *address, version.arrays)
        return versions

    def _held(self) -> list[Address]:
        """The modules that some target holds: only these have learned, and statistics of use."""
        return sorted({
            (layer, module)
            for target in self.targets.values()
            for layer, modules in enumerate(target.modules)
            for module in modules
        })  # fmt: skip


def split(data: Labelled) -> tuple[Labelled, Labelled]:
    """Images to train on, and those held out: every eighth of each class.

    Raises:
        SettingsError: if no class has so many.
    """
    rank = np.empty(len(data.labels), np.int64)
    for one in np.unique(data.labels):
        places = np.flatnonzero(data.labels == one)
        rank[places] = np.arange(len(places))
    out = rank % HELD_OUT == HELD_OUT - 1
    if not out.any():
        raise SettingsError(
            f"modules.refinement.data: no class has {HELD_OUT} images, of which one is held out to "
            "judge by; give more"
        )
    return (
        Labelled(data.images[~out], data.labels[~out]),
        Labelled(data.images[out], data.labels[out]),
    )


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
        self.settings = settings
        self._source = source
        self._fleet, self._catalogue, self._registry = fleet, catalogue, registry
        self._keep = keep
        split(source.data)  # so that too few images are told at once
        self._refined = set(registry.refined())
        self._seen: frozenset[str] = frozenset()
        self._since_s = -math.inf

    def due(self, now_s: float) -> Refinement | None:
        """What is to be refined; None: nothing, or not yet. The clock must not go back."""
        targets = _targets(self._fleet.members)
        marks = frozenset(targets)
        if marks != self._seen:
            self._seen, self._since_s = marks, now_s
        if marks <= self._refined or now_s - self._since_s < self.settings.settle_s:
            return None
        catalogue, network = self._catalogue, self._source.network()
        pieces = {address: catalogue.newest(address) for address in catalogue.addresses}
        for address, version in pieces.items():
            write_module(network, *address, version.arrays)
        return Refinement(
            network, pieces, targets, self._source, self.settings.training,
            lambda address, arrays: catalogue.moved(pieces[address], arrays),
        )  # fmt: skip

    def take(self, refinement: Refinement, refined: Refined) -> int:
        """Put new versions in place, and book them; how many there are.

        A module that has learned from a device meanwhile moves on by what refining changed.
        """
        versions = {}
        for address, version in refined.versions.items():
            began, newest = refinement.pieces[address], self._catalogue.newest(address)
            if newest is not began:
                moved = self._catalogue.moved(newest, _moved_on(newest, began, version))
                if moved is None:
                    continue
                version = moved  # noqa: PLW2901
            versions[address] = version
        self._registry.refine(refinement.targets, versions, keep=self._keep)
        for address, version in versions.items():
            self._catalogue.add(address, version)
        self._refined |= refinement.targets.keys()
        return len(versions)


def _moved_on(newest: ModuleVersion, began: ModuleVersion, led_to: ModuleVersion) -> Arrays:
    moved = {
        name: np.asarray(array + (led_to.arrays[name] - began.arrays[name]), np.float32)
        for name, array in newest.arrays.items()
    }
    # Two that shrink a variance would make it negative together.
    return {
        name: np.maximum(array, np.minimum(newest.arrays[name], led_to.arrays[name]))
        if name.endswith("running_var")
        else array
        for name, array in moved.items()
    }


def _targets(members: Mapping[str, Member]) -> dict[str, Target]:
    """The sub-models of a fleet by their marks: two devices alike are one."""
    targets = {}
    for member in members.values():
        if member.manifest is None or member.class_shares is None:
            continue
        modules = tuple(frozenset(layer) for layer in chosen_of(member.manifest))
        classes = np.flatnonzero(member.class_shares >= LEAST_SHARE)
        mark = [[sorted(layer) for layer in modules], classes.tolist()]
        targets[digest_bytes(msgspec.json.encode(mark))[:16]] = Target(modules, member.class_shares)
    return targets
