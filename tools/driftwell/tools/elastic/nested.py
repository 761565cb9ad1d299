"""Nested networks: a narrow one is the leading part of the full one, and all learn together.

The parts of HeteroFL (Diao et al., ICLR 2021) that know of parameters, not of devices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from driftwell.models.network import Preparation
from driftwell.models.normalisation import batch_norms
from driftwell.models.training import Loss, batches
from driftwell.tools.elastic.problems import Problem
from driftwell.tools.elastic.samples import Samples
from driftwell.tools.elastic.weights import State, state_of, weight_bytes

QUERY_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Update:
    """What one device brings back."""

    parameters: State
    """Prefixes of the full network's."""
    classes: Sequence[int]
    """Those it has samples of."""
    weight: float


def parameters_of(module: nn.Module, state: Mapping[str, Tensor] | None = None) -> State:
    """A module's parameters alone: copies, or those in a state of it."""
    chosen = state_of(module) if state is None else state
    return {name: chosen[name] for name, _ in module.named_parameters()}


def cut(shared: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> State:
    """The leading part of each of the full network's parameters, in the shapes of others."""
    return {name: shared[name][_corner(narrow)] for name, narrow in like.items()}


def averaged(
    shared: Mapping[str, Tensor], updates: Sequence[Update], head: tuple[str, ...]
) -> State:
    """The full network's parameters after a round: each value's mean over those that hold it.

    Args:
        shared: Before; what nobody holds stays.
        updates: Of the devices.
        head: Parameters whose rows are classes; a device holds the rows of its own.
    """
    result = {}
    for name, before in shared.items():
        added = torch.zeros(before.shape, dtype=torch.float64)
        weights = torch.zeros_like(added)
        for update in updates:
            own = update.parameters[name]
            held = torch.full(own.shape, float(update.weight), dtype=torch.float64)
            if name in head:
                is_absent = torch.ones(len(own), dtype=torch.bool)
                is_absent[list(update.classes)] = False
                held[is_absent] = 0.0
            added[_corner(own)] += held * own.double()
            weights[_corner(own)] += held
        mean = (added / weights.clamp_min(torch.finfo(torch.float64).tiny)).to(before.dtype)
        result[name] = torch.where(weights > 0, mean, before)
    return result


def masked_loss(classes: Sequence[int], count: int) -> Loss:
    """Cross-entropy with the logits of all but the given classes set to 0."""
    is_absent = torch.ones(count, dtype=torch.bool)
    is_absent[list(classes)] = False

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits.masked_fill(is_absent, 0.0), labels)

    return loss


def head_names(module: nn.Module) -> tuple[str, ...]:
    """The parameters of a network's last linear layer, whose rows are classes."""
    [*_, (name, _)] = ((n, one) for n, one in module.named_modules() if isinstance(one, nn.Linear))
    return (f"{name}.weight", f"{name}.bias")


def train_nested(
    shared: Mapping[str, Tensor],
    modules: Sequence[nn.Module],
    problem: Problem,
    samples: Samples,
    source: np.random.Generator,
) -> State:
    """Train networks that share their leading parameters, with the effort of the pre-training.

    Args:
        shared: Parameters of the full network; they stay as they are.
        modules: One of each width; their own parameters are not used, their statistics move.
        problem: Theirs.
        samples: To learn from.
        source: Of the order of images and widths.
    """
    effort = problem.pretraining
    prepare = Preparation(problem.preprocessing)
    learned = {name: one.clone().requires_grad_() for name, one in shared.items()}
    optimizer = torch.optim.Adam(learned.values(), effort.rate)
    shapes = [parameters_of(module) for module in modules]
    for module in modules:
        module.train()
    for epoch in range(effort.epochs):
        parts = list(batches(source.permutation(len(samples)), effort.batch))
        for done, part in enumerate(parts):
            effort.set_rate(optimizer, (epoch + (done + 0.5) / len(parts)) / effort.epochs)
            place = int(source.integers(len(modules)))
            inputs = effort.view(prepare(samples.images[part]), source)
            logits = functional_call(modules[place], cut(learned, shapes[place]), (inputs,))
            loss = functional.cross_entropy(logits, torch.from_numpy(samples.labels[part]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {name: one.detach() for name, one in learned.items()}


def settle_statistics(module: nn.Module, parts: Sequence[Samples], prepare: Preparation) -> None:
    """Give BatchNorm the statistics of samples, the mean over all their batches.

    Args:
        module: In evaluation mode, which it is in afterwards.
        parts: Of each device, or all of the proxy data.
        prepare: From pixels to the module's input.
    """
    layers = list(batch_norms(module))
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches, not one in which the last weigh most
    module.train()
    with torch.no_grad():
        for samples in parts:
            for places in batches(np.arange(len(samples)), QUERY_BATCH):
                module(prepare(samples.images[places]))
    module.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def statistics_bytes(module: nn.Module) -> int:
    """Bytes of a network's statistics on a link."""
    return weight_bytes(state_of(module)) - weight_bytes(parameters_of(module))


def _corner(narrow: Tensor) -> tuple[slice, ...]:
    return tuple(slice(size) for size in narrow.shape)
