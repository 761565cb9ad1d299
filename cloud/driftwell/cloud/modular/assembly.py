"""Puts a keeper of modules together, where the edge bundle is modular."""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from driftwell.cloud.consumer import Consumer
from driftwell.cloud.modular.costs import measure_costs
from driftwell.cloud.modular.fleet import Layout
from driftwell.cloud.modular.keeper import ModuleKeeper
from driftwell.cloud.modular.planner import ResourceCost
from driftwell.cloud.modular.registry import ModuleRegistry
from driftwell.messages.errors import SettingsError, WireError
from driftwell.models.bundle import Bundle
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module

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
) -> Iterator[ModuleKeeper | None]:
    """The keeper of a consumer's modules, where it was; None: the edge bundle is not modular.

    At its first start in a folder what modules cost is measured, in some seconds.

    Args:
        consumer: Whose settings, clock and counters it has.
        folder: Of the registry; owned meanwhile.
        key: Signs sub-models.
        survives_power_failure: Whether every commit waits for the disk.

    Raises:
        SettingsError: if the registry is of another model, or damaged.
    """
    edge = consumer.edge
    spec = edge.manifest.modular
    network = edge.module() if spec is not None else None
    if spec is None or not isinstance(network, ModularNetwork):
        yield None
        return
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
                layout=Layout(costs, spec.fallback),
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
        yield keeper


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
