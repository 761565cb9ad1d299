"""Sub-models to train with, drawn as devices get them: within a limit, and by what is needed most.

Small modules stand in front, large ones behind, where images are small. A device with little memory
gets nearly all of the first and hardly any of the last; to be good, that has to be trained. An even
share of each layer is what no plan ever gives.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module


def module_sizes(network: ModularNetwork) -> list[Tensor]:
    """Values of each module that a network holds, for each layer float64 (modules,)."""
    sizes = []
    for layer, held in enumerate(network.held):
        pieces = [read_module(network, layer, module).values() for module in held]
        sizes.append(torch.tensor([sum(one.size for one in own) for own in pieces]).double())
    return sizes


def draw_sub_model(
    scores: Sequence[Tensor], sizes: Sequence[Tensor], away: float, generator: torch.Generator
) -> list[Tensor]:
    """Who is there in this step, for each layer bool (modules,); at least one.

    The limit is drawn between 1 - away and 1 of all values, even on a logarithmic scale. Modules
    are taken by their mean gate per value, as a plan takes them, with noise that makes each as
    likely as that (drawing without putting back by Gumbel noise; Kool et al., ICML 2019). The
    first of each layer is there in any case.

    Args:
        scores: Of a batch, for each layer (N, modules).
        sizes: From `module_sizes`.
        away: Below 1.
        generator: On the CPU.
    """
    limit = (1 - away) ** torch.rand((), generator=generator) * sum(one.sum() for one in sizes)
    ranks = []
    for layer, values in zip(scores, sizes, strict=True):
        gates = torch.softmax(layer.detach(), dim=1).mean(dim=0)
        noise = -torch.empty(len(values)).exponential_(generator=generator).log()
        ranks.append(gates.log() + noise - values.clamp_min(1).log())
    rank, values = torch.cat(ranks), torch.cat(list(sizes))
    order = rank.argsort(descending=True)
    taken = torch.zeros(len(rank), dtype=torch.bool)
    taken[order] = values[order].cumsum(dim=0) <= limit
    present = list(taken.split([len(one) for one in sizes]))
    for own, layer in zip(present, ranks, strict=True):
        own[layer.argmax()] = True
    return present
