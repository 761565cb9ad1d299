"""What lies in front of a network's first normalisation layer, kept as it is in the source.

Signatures of domains are measured there. They can be compared only as long as no version
changes it, so where a version may, a copy of the source's takes its place.
"""

import copy

import torch
from torch import Tensor, nn

from driftwell.models.own_statistics import OwnStatistics


def find_stem(module: nn.Module, inputs: Tensor) -> nn.Sequential | None:
    """A copy of the layers that run before the first `OwnStatistics`, if they are a chain.

    Args:
        module: In evaluation mode; its own statistics take these inputs in.
        inputs: (N, C, H, W), not all alike, with which to find out.

    Returns:
        What gives that layer's input to the bit; None if there is more to it than layers one
        after the other, or no such layer.
    """
    passed: list[tuple[nn.Module, Tensor]] = []
    leaves = [layer for layer in module.modules() if not list(layer.children())]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: passed.append((layer, given[0])))
        for layer in leaves
    ]
    try:
        with torch.inference_mode():
            module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    value = inputs
    front: list[nn.Module] = []
    with torch.inference_mode():
        for layer, given in passed:
            if not torch.equal(value, given):
                return None
            if isinstance(layer, OwnStatistics):
                return nn.Sequential(*copy.deepcopy(front)).eval()
            value = layer(value)
            front.append(layer)
    return None
