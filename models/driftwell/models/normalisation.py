"""Which arrays of a network may adapt: its normalisation layers' state, or every weight.

BatchNorm brings weight, bias, running mean and running variance; LayerNorm and GroupNorm
bring weight and bias. With the scope `normalisation` that is all; with `all` every other
parameter may adapt, too. What may not adapt is frozen and shared.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from driftwell.messages.errors import BundleError

Scope = Literal["normalisation", "all"]

AFFINE: Final = ("weight", "bias")
STATISTICS: Final = ("running_mean", "running_var")
MAX_ADAPTABLE_VALUES: Final = 50_000_000
"""Values that may adapt with the scope `all`; each end holds several copies of them."""
MAX_DIMENSION: Final = 65_535
"""Longest axis of an adaptable array, as the bundle's manifest has it."""


def is_normalisation(module: nn.Module) -> bool:
    """Whether it is a normalisation layer, whose state may always adapt."""
    return isinstance(module, _BatchNorm | nn.LayerNorm | nn.GroupNorm)


def batch_norms(network: nn.Module) -> Iterator[_BatchNorm]:
    """The batch-normalisation layers that keep running statistics."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            yield module


def adaptable_tensors(network: nn.Module, scope: Scope = "normalisation") -> dict[str, Tensor]:
    """The adaptable arrays by name, in the network's own order; live, not copies.

    With `all`, a parameter that several layers share is there once, under its first name.

    Args:
        network: Any network; its BatchNorm layers are still torch's own.
        scope: `normalisation`, the normalisation layers' state; or `all`, every parameter
            and every BatchNorm running statistic.

    Raises:
        BundleError: if the network has none, one is not float32 or has an axis over
            MAX_DIMENSION, or `all` are more than MAX_ADAPTABLE_VALUES.
    """
    tensors = _collected(network, scope)
    if not tensors:
        raise BundleError(_nothing_adapts(scope))
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise BundleError(f"adaptable array {name!r} is {tensor.dtype}, must be float32")
        if not all(1 <= size <= MAX_DIMENSION for size in tensor.shape):
            raise BundleError(
                f"adaptable array {name!r} is {tuple(tensor.shape)}; an axis holds 1 to "
                f"{MAX_DIMENSION} values"
            )
    values = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if scope == "all" and values > MAX_ADAPTABLE_VALUES:
        raise BundleError(
            f"the network has {values:,} values, at most {MAX_ADAPTABLE_VALUES:,} may adapt "
            "together; let only its normalisation layers adapt"
        )
    return tensors


def narrowest_scope(network: nn.Module, names: Iterable[str]) -> Scope:
    """`normalisation` if normalisation layers hold all arrays of these names, else `all`."""
    return "normalisation" if _collected(network, "normalisation").keys() >= set(names) else "all"


def affine_names(network: nn.Module) -> frozenset[str]:
    """Names of the weights and biases of normalisation layers: what CEMA learns by gradient.

    The layers are still torch's own: one that stands in for BatchNorm is not counted.
    """
    return frozenset(
        _joined(prefix, field)
        for prefix, module in network.named_modules()
        if is_normalisation(module)
        for field in AFFINE
        if isinstance(getattr(module, field, None), Tensor)
    )


def _collected(network: nn.Module, scope: Scope) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for prefix, module in network.named_modules():
        for field, tensor in _own_tensors(module, scope):
            if scope == "all" and id(tensor) in seen:
                continue
            seen.add(id(tensor))
            tensors[_joined(prefix, field)] = tensor
    return tensors


def _own_tensors(module: nn.Module, scope: Scope) -> Iterator[tuple[str, Tensor]]:
    """What may adapt of a module itself, without those in it."""
    if is_normalisation(module):
        for field in AFFINE + STATISTICS:
            tensor = getattr(module, field, None)
            if isinstance(tensor, Tensor):
                yield field, tensor
    elif scope == "all":
        yield from module.named_parameters(recurse=False)


def _joined(prefix: str, field: str) -> str:
    return f"{prefix}.{field}" if prefix else field


def _nothing_adapts(scope: Scope) -> str:
    what = (
        "parameter" if scope == "all" else "BatchNorm, LayerNorm or GroupNorm layer with parameters"
    )
    return f"the network has no {what}: there is nothing Driftwell could adapt"
