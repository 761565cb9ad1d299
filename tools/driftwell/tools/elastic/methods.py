"""The methods of the elastic bench, by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from driftwell.tools.elastic.baselines import (
    FedAvg,
    FedAvgPrior,
    LocalAdaptation,
    LocalAdaptationPrior,
    NoAdaptation,
    NoAdaptationPrior,
)
from driftwell.tools.elastic.heterofl import HeteroFL
from driftwell.tools.elastic.method import MakeMethod
from driftwell.tools.elastic.modules import ElasticModules

METHODS: Final[Mapping[str, MakeMethod]] = MappingProxyType(
    {
        "none": NoAdaptation,
        "local": LocalAdaptation,
        "fedavg": FedAvg,
        "heterofl": HeteroFL,
        "driftwell": ElasticModules,
        # Not as published: the baselines with the part of `driftwell` that they can have, too.
        "none+prior": NoAdaptationPrior,
        "local+prior": LocalAdaptationPrior,
        "fedavg+prior": FedAvgPrior,
    }
)
