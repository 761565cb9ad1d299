"""States of networks: what they weigh on a link, and their mean.

A state is a module's float arrays, parameters and buffers, by name. What counts batches
(`num_batches_tracked`) is none of it: with a fixed momentum nothing depends on it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
"""float32 arrays by name, on the CPU, without gradients."""


def state_of(module: nn.Module) -> State:
    """A copy of a module's state."""
    return {
        name: tensor.detach().clone()
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }


def install(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state into a module of the same names and shapes."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():  # these share the module's memory
            if tensor.is_floating_point():
                tensor.copy_(state[name])


def weight_bytes(state: Mapping[str, Tensor]) -> int:
    """Bytes of a state on a link, 4 a value."""
    return 4 * sum(tensor.numel() for tensor in state.values())


def weighted_mean(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> State:
    """The mean of one or more states of the same shapes.

    Args:
        states: Of at least one device.
        weights: One a state, with a sum above 0.
    """
    total = sum(weights)
    mean = {}
    for name, first in states[0].items():
        # In float64: the mean of equal states is that state to the last bit.
        added = torch.zeros(first.shape, dtype=torch.float64)
        for state, weight in zip(states, weights, strict=True):
            added += weight * state[name].double()
        mean[name] = (added / total).to(first.dtype)
    return mean
