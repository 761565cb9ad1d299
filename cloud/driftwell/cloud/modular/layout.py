"""Pure. What is the same for all devices of a modular model: what modules cost, and its classes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from driftwell.cloud.modular.planner import MEMORY, ResourceCost

Chosen = Sequence[Collection[int]]
"""For each module layer the numbers of its modules."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is the same for all devices of a modular model."""

    costs: Mapping[str, ResourceCost]
    """What trunk and modules take of MEMORY and LATENCY, by the cloud's measure."""
    fallback: Chosen
    """The modules of the sub-model that every device has."""
    classes: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Modules of each layer."""
        return tuple(len(layer) for layer in self.costs[MEMORY].modules)

    @property
    def whole(self) -> Mapping[str, float]:
        """What the whole model takes."""
        return self.spent([range(size) for size in self.sizes])

    def spent(self, chosen: Chosen) -> dict[str, float]:
        """What a sub-model of these modules takes of each resource."""
        return {
            name: cost.trunk
            + sum(
                float(layer[list(modules)].sum())
                for layer, modules in zip(cost.modules, chosen, strict=True)
            )
            for name, cost in self.costs.items()
        }
