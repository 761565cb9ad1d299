"""Test-time batch renormalisation (DELTA, ICLR 2023), as CEMA's official code uses it.

In training mode the value is what the running statistics give, while gradients flow
through the batch's own statistics:

    y = (x - mu_B) / sigma_B * r + d,   r = sigma_B / sigma,   d = (mu_B - mu) / sigma

with r and d constants. The running statistics mu, sigma move by `momentum` towards the
batch's first; a fresh layer takes the first batch's as they are.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class RenormalisedBatchNorm(nn.Module):
    """Stands in for a BatchNorm layer of any dimension, under the same array names."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, layer: _BatchNorm, momentum: float) -> None:
        super().__init__()
        if layer.running_mean is None or layer.running_var is None:
            raise ValueError("the layer keeps no running statistics")
        self.register_parameter("weight", layer.weight)
        self.register_parameter("bias", layer.bias)
        self.register_buffer("running_mean", layer.running_mean.clone())
        self.register_buffer("running_var", layer.running_var.clone())
        self.eps = layer.eps
        self.momentum = momentum
        self.is_fresh = False

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape."""
        if not self.training:
            return functional.batch_norm(
                features, self.running_mean, self.running_var, self.weight, self.bias,
                training=False, eps=self.eps,
            )  # fmt: skip
        axes = [axis for axis in range(features.dim()) if axis != 1]
        mean = features.mean(dim=axes)  # (C,)
        variance = features.var(dim=axes, unbiased=True)  # (C,)
        self._move_towards(mean.detach(), variance.detach())
        deviation = torch.sqrt(variance + self.eps)
        running_deviation = torch.sqrt(self.running_var + self.eps)
        scale = (deviation / running_deviation).detach()  # r
        shift = ((mean - self.running_mean) / running_deviation).detach()  # d
        # One affine map of the features: cheaper than normalising in three steps.
        factor = scale / deviation
        offset = shift - mean * factor
        if self.weight is not None:
            factor, offset = factor * self.weight, offset * self.weight
        if self.bias is not None:
            offset = offset + self.bias
        shape = (1, -1, *(1,) * (features.dim() - 2))
        return features * factor.view(shape) + offset.view(shape)

    def _move_towards(self, mean: Tensor, variance: Tensor) -> None:
        share = 1.0 if self.is_fresh else self.momentum
        self.is_fresh = False
        with torch.no_grad():
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)


def renormalise(network: nn.Module, momentum: float) -> list[RenormalisedBatchNorm]:
    """Replace every BatchNorm with running statistics, in place; return the new layers."""
    replaced = []
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and child.running_mean is not None:
                layer = RenormalisedBatchNorm(child, momentum)
                setattr(parent, name, layer)
                replaced.append(layer)
    return replaced
