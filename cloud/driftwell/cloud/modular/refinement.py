"""One training of a fleet's sub-models together, rounded and judged (`refining` trains).

What modules learned is rounded as any difference is, and judged with that rounding on images that
were held out. Only if sub-models answer better by it, with statistics of their own and with
those that modules bring, does it lead to versions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from driftwell.cloud.modular.catalogue import Address, ModuleVersion
from driftwell.cloud.modular.offline_settings import RefiningSettings
from driftwell.cloud.modular.refining import Labelled, Prepare, Target, judge, refine
from driftwell.messages.errors import ArrayError, SettingsError
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import Arrays, read_module, write_module

HELD_OUT: Final = 8
"""Of so many images one is held out, to judge by."""
MAX_TARGETS: Final = 1000
"""Sub-models of one refinement; of a larger fleet some stand for all."""
LEAST_GAIN: Final = 0.005
"""Nats by which the mean loss must fall."""
LARGEST_LOSS: Final = 0.05
"""Nats by which that of no sub-model may rise."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What the cloud trains with."""

    data: Labelled
    prepare: Prepare
    network: Callable[[], ModularNetwork]
    """Makes one with all modules, in whatever version."""
    name: str
    """Of data and settings: what was refined with others may be refined again."""
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

    pieces: Mapping[Address, ModuleVersion]
    """The newest modules."""
    devices: Mapping[str, Target]
    """The sub-model of each device that it is for."""
    source: Source
    settings: RefiningSettings
    number: int
    learned: Callable[[ModuleVersion, Arrays], ModuleVersion | None]
    """`Catalogue.moved`, which only reads."""

    def run(self, check: Callable[[], None] = lambda: None) -> Refined:
        """Train, round and judge; what `check` raises ends it, with nothing done."""
        targets = list(self.devices.values())
        targets = targets[:: -(-len(targets) // MAX_TARGETS)]
        source, seed = self.source, [self.source.seed, self.number]
        network = source.network()
        for address, version in self.pieces.items():
            write_module(network, *address, version.arrays)
        training, held_out = split(source.data)
        losses = partial(
            _losses, network, held_out, source.prepare, targets, seed=seed, check=check
        )
        before = losses()
        try:
            refine(
                network, training, source.prepare, targets, self.settings, seed=seed, check=check
            )
        except ArrayError:  # not finite: a rate that was too high
            return Refined((float(before[0].mean()), math.inf), {})
        versions = self._rounded(network, targets)
        after = losses()
        is_better = all(_gains(*pair) for pair in zip(before, after, strict=True))
        found = float(before[0].mean()), float(after[0].mean())
        return Refined(found, versions if is_better else {})

    def _rounded(
        self, network: ModularNetwork, targets: Sequence[Target]
    ) -> dict[Address, ModuleVersion]:
        """What modules learned as their next versions, which are in the network then."""
        versions = {}
        for address in _held(targets):
            began = self.pieces[address]
            try:
                version = self.learned(began, read_module(network, *address))
            except ArrayError as error:  # more than a difference can say
                log.warning("module.not-refined", module=address, error=str(error))
                version = None
            if version is not None:
                versions[address] = version
            write_module(network, *address, (version or began).arrays)
        return versions


def _losses(
    network: ModularNetwork,
    data: Labelled,
    prepare: Prepare,
    targets: Sequence[Target],
    *,
    seed: Sequence[int],
    check: Callable[[], None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each target by own statistics, and by those that modules bring."""
    by_batch, by_running = (
        judge(network, data, prepare, targets, seed=seed, by_batch=one, check=check)
        for one in (True, False)
    )
    return by_batch, by_running


def _gains(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    rises = after - before
    return bool(rises.mean() <= -LEAST_GAIN and rises.max() <= LARGEST_LOSS)  # NaN: no


def _held(targets: Sequence[Target]) -> list[Address]:
    """The modules that some target holds: only these have learned, and statistics of use."""
    return sorted({
        (layer, module)
        for target in targets
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
