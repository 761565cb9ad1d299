"""The method `driftwell`: each device runs the modules its data need and its limits allow.

Offline the pre-trained network is cut into modules and trained on the proxy data. In a step
each device asks the selector which modules its data use, and gets a sub-model that fits its
budget. In the first step, before anything is fetched, the cloud trains the sub-models that came of
it together, on proxy images of each device's classes. Then devices train copies of their modules
on their labelled data, and send back what these learned. The cloud folds that in, module by
module, and from the next step on devices run what came of it. In training and when it answers, a
device adds the log of its classes' shares to its logits. The limit of a step's download is for
modules: trunk and selector come with the installation, and count as traffic only.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.cloud.modular.aggregation import Contribution
from driftwell.cloud.modular.catalogue import Address, Catalogue, FoldSettings
from driftwell.cloud.modular.costs import measure_costs, smallest_choice
from driftwell.cloud.modular.importance import Importance, worth_fetching
from driftwell.cloud.modular.offline_settings import OfflineSettings, RefiningSettings
from driftwell.cloud.modular.planner import (
    DOWNLOAD,
    LATENCY,
    MEMORY,
    ResourceCost,
    choose_greedily,
    plan_modules,
)
from driftwell.cloud.modular.refining import Labelled, Target, refine
from driftwell.cloud.modular.training import train_offline
from driftwell.messages.errors import InfeasibleBudgetError
from driftwell.messages.images import Pixels
from driftwell.models.footprint import Footprint, Yardstick
from driftwell.models.modular.decomposition import Structure, decompose, derive
from driftwell.models.modular.pieces import read_module, read_trunk, write_module
from driftwell.models.training import Effort
from driftwell.tools.elastic.method import Pretrained, Traffic
from driftwell.tools.elastic.modular_device import ModularDevice
from driftwell.tools.elastic.samples import Numbers
from driftwell.tools.elastic.weights import install, state_of
from driftwell.tools.elastic.world import Budget, World

DRAWS: Final = 7
"""Second number of the seed of a device's order of images."""
TRIES: Final = 5
"""Plans for one device: a sub-model that is measured over a limit is planned anew."""
PROBE: Final = 600
"""Proxy images, at most, from which the statistics of a sub-model are taken."""
TIGHTER: Final = 0.95
"""Of the limit then, beside the share by which it was missed."""


@dataclass(frozen=True, slots=True)
class ModuleSettings:
    """What the method can be told; an ablation changes one of it."""

    structure: Structure = field(default_factory=lambda: Structure(active=8))
    offline: OfflineSettings = field(
        default_factory=lambda: OfflineSettings(joint_epochs=20, ability_epochs=0, distilled=0.7)
    )
    """Views are the problem's."""
    fold: FoldSettings = field(default_factory=FoldSettings)
    local: Effort | None = None
    """Of a device; None: the problem's. Without epochs it does not train."""
    knows_classes: bool = True
    """Whether devices add the log of their classes' shares to their logits."""
    refining: RefiningSettings | None = field(
        default_factory=lambda: RefiningSettings(batches=3000)
    )
    """Of the sub-models of the first step, in the cloud, with the problem's views; None: not."""
    least_importance: float = 0.02
    """Below this a device's data do not need a module: it is not fetched, whatever the budget."""
    is_exact: bool = True
    """Whether sub-models are derived exactly; else greedily."""


class ElasticModules:
    """A modular network in the cloud, and a sub-model of it on every device."""

    name = "driftwell"

    def __init__(
        self,
        world: World,
        seed: int,
        pretrained: Pretrained,
        settings: ModuleSettings | None = None,
    ) -> None:
        self._world = world
        self._seed = seed
        self._pretrained = pretrained
        self._settings = settings or ModuleSettings()

    def prepare(self) -> None:
        """Cut the network, train modules and selector, and measure what they cost."""
        settings, proxy = self._settings, self._world.proxy
        problem, prepare = self._world.problem, self._pretrained.preparation
        inputs = prepare(proxy.images)
        self._whole = decompose(
            self._pretrained.module(), inputs[:1], settings.structure, seed=self._seed
        )
        offline = msgspec.structs.replace(settings.offline, **asdict(problem.views))
        key = (self.name, self._seed, settings.structure, offline)
        made = self._pretrained.made
        if key not in made:
            teacher = self._pretrained.module()
            train_offline(
                self._whole, inputs, proxy.labels, offline, seed=self._seed, teacher=teacher
            )
            made[key] = state_of(self._whole)
        install(self._whole, made[key])
        self._costs = measure_costs(self._whole, self._world.problem.shape)
        self._trunk_bytes = sum(array.nbytes for array in read_trunk(self._whole).values())
        self._catalogue = self._new_catalogue()
        smallest = derive(self._whole, smallest_choice(self._whole))
        self._devices = [
            ModularDevice(smallest, prepare, problem.classes) for _ in self._world.devices
        ]
        self._footprints: dict[int, Footprint] = {}
        self._yardstick = Yardstick(self._pretrained.module(), self._world.full.latency_ms)
        # Of each device's classes: it tells the cloud which these are.
        self._probes = [
            proxy.at(np.flatnonzero(np.isin(proxy.labels, device.classes))[:PROBE])
            for device in self._world.devices
        ]

    def step(self, number: int) -> Traffic:
        """Derive, fetch, train and send for each device; then fold in what came."""
        up = down = 0
        arrived: dict[Address, list[Contribution]] = defaultdict(list)
        wanted = []
        effort = self._settings.local or self._world.problem.learning
        for place, (device, own) in enumerate(zip(self._devices, self._world.devices, strict=True)):
            importance = device.importance(own.steps[number])
            wanted.append(importance)
            up += sum(layer.nbytes // 2 for layer in importance)  # as float32
            if number == 0:
                self._derive(place, own.budget, importance)
            else:  # the same limits and classes: it keeps its sub-model
                device.take(self._whole, device.held)
        if number == 0 and self._settings.refining is not None:
            self._refine(self._settings.refining)
            up += len(self._devices) * 4 * self._world.problem.classes  # their classes' shares
        for place, (device, own) in enumerate(zip(self._devices, self._world.devices, strict=True)):
            importance = wanted[place]
            down += device.fetch(self._catalogue) + (self._trunk_bytes if number == 0 else 0)
            down += device.settle(self._probes[place])
            seed = [self._seed, DRAWS, number, place]
            knows = self._settings.knows_classes
            device.learn(own.steps[number], effort, knows_classes=knows, seed=seed)
            for learned in device.report(self._catalogue, importance):
                up += learned.size_bytes
                contribution = self._catalogue.read(learned.address, learned.update)
                arrived[learned.address].append(contribution)
        for address, contributions in arrived.items():
            if self._catalogue.fold(address, contributions):
                write_module(self._whole, *address, self._catalogue.arrays(address))
        return Traffic(up=up, down=down)

    def answer(self, device: int, images: Pixels) -> Numbers:
        """As the device's own sub-model does."""
        return self._devices[device].answer(images)

    def footprint(self, device: int) -> Footprint:
        """Of the device's sub-model, as it was measured when it was derived."""
        return self._footprints[device]

    def _new_catalogue(self) -> Catalogue:
        modules = {
            (layer, module): read_module(self._whole, layer, module)
            for layer, held in enumerate(self._whole.held)
            for module in held
        }
        return Catalogue(modules, self._settings.fold)

    def _refine(self, settings: RefiningSettings) -> None:
        """Train the sub-models that were just derived; their devices have fetched nothing yet."""
        world, pretrained = self._world, self._pretrained
        targets = [
            Target(
                tuple(frozenset(layer) for layer in device.held),
                class_shares(own.steps[0].labels, world.problem.classes),
            )
            for device, own in zip(self._devices, world.devices, strict=True)
        ]
        refine(
            self._whole, Labelled(world.proxy.images, world.proxy.labels), pretrained.preparation,
            targets, msgspec.structs.replace(settings, **asdict(world.problem.views)),
            seed=[self._seed], teacher=pretrained.module(),
            distilled=self._settings.offline.distilled, with_head=True,
        )  # fmt: skip
        self._catalogue = self._new_catalogue()
        for device, target in zip(self._devices, targets, strict=True):
            device.take(self._whole, target.modules)

    def _derive(self, place: int, budget: Budget, importance: Importance) -> None:
        """Give a device the best sub-model that is measured within its limits.

        Where even the smallest is not, it gets that: a device that has no model cannot answer.
        """
        device = self._devices[place]
        limits = _limits_of(budget)
        for _ in range(TRIES):
            try:
                chosen = self._plan(importance, limits, device)
            except InfeasibleBudgetError:
                break
            device.take(self._whole, chosen)
            measured = device.footprint(self._world.problem.shape, self._yardstick)
            self._footprints[place] = measured
            over = _missed(measured, budget)
            if not over:
                return
            limits |= {name: limits[name] / by * TIGHTER for name, by in over.items()}
        device.take(self._whole, [frozenset(one) for one in smallest_choice(self._whole)])
        self._footprints[place] = device.footprint(self._world.problem.shape, self._yardstick)

    def _plan(
        self, importance: Importance, limits: Mapping[str, float], device: ModularDevice
    ) -> Sequence[frozenset[int]]:
        wanted = worth_fetching(importance, self._settings.least_importance)
        download = ResourceCost(device.fetch_bytes(self._catalogue))
        costs = {**self._costs, DOWNLOAD: download}
        derive_by = plan_modules if self._settings.is_exact else choose_greedily
        return derive_by(wanted, costs, limits).modules


def class_shares(labels: Numbers, classes: int) -> NDArray[np.float64]:
    """The share of each class (classes,) among labels (N,), N >= 1."""
    return np.bincount(labels, minlength=classes) / len(labels)


def _limits_of(budget: Budget) -> dict[str, float]:
    return {
        MEMORY: float(budget.memory_bytes),
        LATENCY: budget.latency_ms,
        DOWNLOAD: float(budget.download_bytes),
    }


def _missed(measured: Footprint, budget: Budget) -> dict[str, float]:
    """By which factor, above 1, a sub-model is over each limit that it is over."""
    factors = {
        MEMORY: measured.peak_bytes / budget.memory_bytes,
        LATENCY: measured.latency_ms / budget.latency_ms,
    }
    return {name: factor for name, factor in factors.items() if factor > 1}
