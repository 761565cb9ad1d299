"""Puts a keeper of modules together, where the edge bundle is modular."""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from driftwell.cloud.consumer import Consumer
from driftwell.cloud.modular.costs import measure_costs
from driftwell.cloud.modular.keeper import ModuleKeeper
from driftwell.cloud.modular.layout import Layout
from driftwell.cloud.modular.offline import data_digest
from driftwell.cloud.modular.planner import ResourceCost
from driftwell.cloud.modular.refinement import Source
from driftwell.cloud.modular.refiner import Refiner
from driftwell.cloud.modular.refining import Labelled
from driftwell.cloud.modular.registry import ModuleRegistry
from driftwell.messages.digest import digest_bytes
from driftwell.messages.errors import SettingsError, WireError
from driftwell.models.bundle import Bundle
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module
from driftwell.models.network import Preparation

log = structlog.get_logger()


class _StoredCost(msgspec.Struct, frozen=True):
    modules: list[list[float]]
    trunk: float


@contextmanager
def open_keeper(
    consumer: Consumer,
    folder: Path,
    *,
    key: Ed25519PrivateKey,
    survives_power_failure: bool,
    data: Labelled | None = None,
) -> Iterator[ModuleKeeper | None]:
    """The keeper of a consumer's modules, where it was; None: the edge bundle is not modular.

    At its first start in a folder what modules cost is measured, in some seconds.

    Args:
        consumer: Whose settings, clock and counters it has.
        folder: Of the registry; owned meanwhile.
        key: Signs sub-models.
        survives_power_failure: Whether every commit waits for the disk.
        data: To refine sub-models with; None: they are not.

    Raises:
        SettingsError: if the registry is of another model, or damaged.
    """
    edge = consumer.edge
    spec = edge.manifest.modular
    if spec is None:
        if data is not None:
            raise SettingsError(
                f"modules.refinement.data: {edge.path} is a bundle in one piece, and has no "
                "sub-models; leave it out"
            )
        yield None
        return
    network = _network_of(edge)
    registry = ModuleRegistry(
        folder, model=edge.digest, survives_power_failure=survives_power_failure
    )
    with contextlib.closing(registry):
        costs = _known_costs(registry, edge, network)
        try:
            keeper = ModuleKeeper(
                consumer.settings.modules,
                group=consumer.settings.group,
                model=edge.digest,
                modules={
                    (layer, module): read_module(network, layer, module)
                    for layer, held in enumerate(network.held)
                    for module in held
                },
                layout=Layout(costs, spec.fallback, len(edge.manifest.classes)),
                registry=registry,
                key=key,
                expiry_days=consumer.settings.expiry_days,
                wall_ns=consumer.wall_ns,
                counters=consumer.counters,
            )
        except WireError as error:
            raise SettingsError(
                f"the module registry in {folder} is damaged ({error}); restore it from a backup, "
                "or move it away to begin again with the bundle's modules"
            ) from error
        if data is not None:
            settings = consumer.settings
            of = [data_digest(data.images, data.labels), settings.modules.refinement.training]
            source = Source(
                data, Preparation(edge.manifest.preprocessing), partial(_network_of, edge),
                digest_bytes(msgspec.json.encode(of)), seed=settings.seed,
            )  # fmt: skip
            keeper.refiner = Refiner(
                consumer.settings.modules.refinement, source,
                fleet=keeper.fleet, catalogue=keeper.catalogue, registry=registry,
                keep=consumer.settings.modules.fold.keep,
            )  # fmt: skip
        yield keeper


def _network_of(edge: Bundle) -> ModularNetwork:
    network = edge.module()
    if not isinstance(network, ModularNetwork):
        raise SettingsError(f"{edge.path} is a bundle in one piece")
    return network


def _known_costs(
    registry: ModuleRegistry, edge: Bundle, network: ModularNetwork
) -> Mapping[str, ResourceCost]:
    kept = registry.costs()
    if kept is not None:
        stored = msgspec.json.decode(kept, type=dict[str, _StoredCost])
        return {
            name: ResourceCost([np.array(layer) for layer in cost.modules], cost.trunk)
            for name, cost in stored.items()
        }
    log.info("modules.measuring", modules=sum(len(held) for held in network.held))
    costs = measure_costs(network, edge.manifest.input.shape)
    registry.keep_costs(
        msgspec.json.encode(
            {
                name: _StoredCost([layer.tolist() for layer in cost.modules], cost.trunk)
                for name, cost in costs.items()
            }
        )
    )
    return costs
