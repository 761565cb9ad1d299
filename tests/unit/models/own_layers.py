"""Layers with own statistics, and what they should answer, for the tests of both files."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.models.own_statistics import (
    OwnStatistics,
)
from driftwell.models.statistics import StatisticsSettings

CHANNELS = 3
LAYERS = {
    "1d, flat": (nn.BatchNorm1d, ()),
    "1d": (nn.BatchNorm1d, (5,)),
    "2d": (nn.BatchNorm2d, (4, 4)),
    "3d": (nn.BatchNorm3d, (2, 3, 2)),
}


def make_layer(
    kind: type[nn.modules.batchnorm._BatchNorm] = nn.BatchNorm2d, **settings: Any
) -> OwnStatistics:
    layer = kind(CHANNELS)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
        layer.running_mean = torch.tensor([0.5, -1.0, 3.0])
        layer.running_var = torch.tensor([1.0, 4.0, 0.25])
    return OwnStatistics(layer, StatisticsSettings(**settings))


def features_of(count: int, shape: tuple[int, ...] = (4, 4), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 + 3 * torch.randn((count, CHANNELS, *shape), generator=generator)


def values_of(features: Tensor) -> NDArray[np.float64]:
    """(C, everything else)."""
    return features.transpose(0, 1).reshape(CHANNELS, -1).double().numpy()


def expected_output(
    layer: OwnStatistics, features: Tensor, mean: NDArray[np.float64], variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The batch normalised in float64 by the given moments, (C,)."""
    assert layer.weight is not None
    assert layer.bias is not None
    scale = layer.weight.detach().double().numpy() / np.sqrt(variance + layer.eps)
    shift = layer.bias.detach().double().numpy() - mean * scale
    shape = (1, CHANNELS, *(1,) * (features.dim() - 2))
    return np.asarray(features.double().numpy() * scale.reshape(shape) + shift.reshape(shape))
