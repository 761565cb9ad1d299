"""What each module of a modular network costs a device, measured and not only counted.

Two sub-models are measured for each layer: the smallest there is, and the same with all modules
of the layer. What they differ by, shared among the modules, is what one costs. The peak of
memory is that of the hungriest layer, not of all, so these costs add up to the peak or more.
"""

from collections.abc import Mapping

import numpy as np

from driftwell.cloud.modular.planner import LATENCY, MEMORY, ResourceCost
from driftwell.models.footprint import Footprint, Yardstick, measure_footprint
from driftwell.models.modular.decomposition import derive
from driftwell.models.modular.network import ModularNetwork


def smallest_choice(network: ModularNetwork) -> list[tuple[int, ...]]:
    """One module of each layer, the one with the fewest channels."""
    return [(place.held[int(np.argmin(place.widths))],) for place in network.places]


def measure_costs(
    network: ModularNetwork, shape: tuple[int, int, int]
) -> Mapping[str, ResourceCost]:
    """Memory of one image and latency of 16, of trunk and modules.

    Args:
        network: Holding all its modules.
        shape: (H, W, C) of an image.
    """
    smallest = smallest_choice(network)
    smallest_network = derive(network, smallest)
    least = measure_footprint(smallest_network, shape)
    yardstick = Yardstick(smallest_network, least.latency_ms)
    wide = []
    for number, place in enumerate(network.places):
        chosen: list[tuple[int, ...]] = list(smallest)
        chosen[number] = place.held
        wide.append(measure_footprint(derive(network, chosen), shape, yardstick=yardstick))
    return {
        MEMORY: _shared(network, smallest, least, wide, "peak_bytes"),
        LATENCY: _shared(network, smallest, least, wide, "latency_ms"),
    }


def _shared(
    network: ModularNetwork,
    smallest: list[tuple[int, ...]],
    least: Footprint,
    wide: list[Footprint],
    resource: str,
) -> ResourceCost:
    trunk = float(getattr(least, resource))
    modules = []
    for place, (one,), measured in zip(network.places, smallest, wide, strict=True):
        channels = np.array(place.widths, np.float64)
        of_one = float(channels[place.held.index(one)])
        added = max(0.0, float(getattr(measured, resource)) - float(getattr(least, resource)))
        a_channel = added / max(1.0, float(channels.sum()) - of_one)
        modules.append(channels * a_channel)
        trunk -= of_one * a_channel
    return ResourceCost(modules=modules, trunk=max(0.0, trunk))
