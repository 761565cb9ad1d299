"""What the offline stage draws: batches, and which modules are there in a step."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module


def module_sizes(network: ModularNetwork) -> list[Tensor]:
    """Values of each module, for each layer (modules,)."""
    return [
        torch.tensor(
            [
                sum(one.size for one in read_module(network, layer, module).values())
                for module in held
            ]
        ).float()
        for layer, held in enumerate(network.held)
    ]


def draw_present(
    scores: Sequence[Tensor], sizes: Sequence[Tensor], away: float, generator: torch.Generator
) -> list[Tensor]:
    """Who is there in this step, for each layer bool (modules,): a sub-model as devices get them.

    As many values as a limit allows that is drawn between 1 - away and 1 of all, alike on a
    logarithmic scale. Modules are taken by their mean gate for each value, as a plan does, with
    noise: so each is drawn as likely as that, without putting back (the Gumbel trick; Kool et
    al., ICML 2019). And the best of each layer.
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


def batches(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Numbers of all samples in a drawn order; a last batch of one is left out."""
    order = torch.randperm(count, generator=generator)
    for first in range(0, count, batch):
        chosen = order[first : first + batch]
        if len(chosen) > 1:  # BatchNorm needs two
            yield chosen
