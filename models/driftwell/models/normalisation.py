"""Which arrays of a network may adapt: the state of its normalisation layers.

BatchNorm brings weight, bias, running mean and running variance; LayerNorm and GroupNorm
bring weight and bias. Everything else is frozen and shared.
"""

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from driftwell.messages.errors import BundleError

AFFINE: Final = ("weight", "bias")
STATISTICS: Final = ("running_mean", "running_var")


def is_normalisation(module: nn.Module) -> bool:
    """Whether a layer's state may adapt."""
    return isinstance(module, _BatchNorm | nn.LayerNorm | nn.GroupNorm)


def batch_norms(network: nn.Module) -> Iterator[_BatchNorm]:
    """The batch-normalisation layers that keep running statistics."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            yield module


def adaptable_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The adaptable arrays by name, in the network's own order; live, not copies.

    Raises:
        BundleError: if the network has none, or one is not float32.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, module in network.named_modules():
        if not is_normalisation(module):
            continue
        for field in AFFINE + STATISTICS:
            tensor = getattr(module, field, None)
            if isinstance(tensor, Tensor):
                tensors[f"{prefix}.{field}" if prefix else field] = tensor
    if not tensors:
        raise BundleError(
            "the network has no BatchNorm, LayerNorm or GroupNorm layer with parameters: "
            "there is nothing Driftwell could adapt"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise BundleError(f"adaptable array {name!r} is {tensor.dtype}, must be float32")
    return tensors


def is_affine(name: str) -> bool:
    """Whether an adaptable array is learned by gradient (weight, bias) or measured."""
    return name.rpartition(".")[2] in AFFINE
