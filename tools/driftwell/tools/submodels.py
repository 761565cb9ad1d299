"""What sub-model a device would get, asked without a device, and what it really costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from driftwell.cloud.modular.costs import measure_costs
from driftwell.cloud.modular.planner import DOWNLOAD, ModulePlan, ResourceCost, plan_modules
from driftwell.messages.errors import BundleError
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle
from driftwell.models.footprint import Footprint, Yardstick, measure_footprint
from driftwell.models.modular.decomposition import derive
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module
from driftwell.models.network import Preparation

AT_ONCE = 256
"""Images of one pass of the selector."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A sub-model for some limits."""

    plan: ModulePlan
    footprint: Footprint
    """Measured, of the sub-model itself."""
    whole: Footprint
    """Of the whole model."""


def propose(
    bundle: Bundle, limits: Mapping[str, float], images: Pixels | None, *, time_limit_s: float = 1.0
) -> Proposal:
    """The sub-model that a cloud would derive for a device that holds no module yet.

    Args:
        bundle: Modular, with all its modules.
        limits: By resource (`cloud.modular.planner`), each above 0; none is no limit.
        images: What the device sees, uint8 (N, H, W, C); None: its data need all modules alike.
        time_limit_s: For the exact choice.

    Raises:
        BundleError: if the bundle is not modular.
        InfeasibleBudgetError: if no sub-model is within the limits.
    """
    network = bundle.module()
    if not isinstance(network, ModularNetwork):
        raise BundleError(f"{bundle.path} is a bundle in one piece: nothing can be chosen of it")
    shape = bundle.manifest.input.shape
    download = ResourceCost([
        np.array([_size_bytes(network, layer, module) for module in held])
        for layer, held in enumerate(network.held)
    ])  # fmt: skip
    plan = plan_modules(
        importance_of(network, Preparation(bundle.manifest.preprocessing), images),
        {**measure_costs(network, shape), DOWNLOAD: download},
        limits,
        time_limit_s=time_limit_s,
    )
    derived = derive(network, [sorted(layer) for layer in plan.modules])
    whole = measure_footprint(network, shape)
    yardstick = Yardstick(network, whole.latency_ms)
    return Proposal(plan, measure_footprint(derived, shape, yardstick=yardstick), whole)


def importance_of(
    network: ModularNetwork, prepare: Preparation, images: Pixels | None
) -> Sequence[NDArray[np.float64]]:
    """Mean gates over images, for each layer (modules,); None: all modules alike."""
    if images is None or not len(images):
        return [np.full(place.total, 1 / place.total) for place in network.places]
    network.eval()
    sums = [np.zeros(place.total) for place in network.places]
    with torch.inference_mode():
        for first in range(0, len(images), AT_ONCE):
            batch = images[first : first + AT_ONCE]
            layers = network.importance(prepare(batch))
            sums = [
                total + layer.double().numpy() * len(batch)
                for total, layer in zip(sums, layers, strict=True)
            ]
    return [total / len(images) for total in sums]


def _size_bytes(network: ModularNetwork, layer: int, module: int) -> float:
    return float(sum(array.nbytes for array in read_module(network, layer, module).values()))
