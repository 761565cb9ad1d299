"""The two networks of the demo; bundles name them as `driftwell.tools.demo.networks:edge_cnn`.

This is how a model of your own is brought to Driftwell: a module that can be imported, a
function without arguments that returns the untrained network, normalisation layers in it.
"""

from typing import Final

from torch import nn

CLASSES: Final = 10
EDGE_CHANNELS: Final = (12, 24, 32)
FOUNDATION_CHANNELS: Final = (32, 64, 96)


def edge_cnn() -> nn.Module:
    """Three convolutions: what a small camera can run."""
    return _stack(EDGE_CHANNELS, repeats=1)


def foundation_cnn() -> nn.Module:
    """Twice as deep and three times as wide: what the cloud can run."""
    return _stack(FOUNDATION_CHANNELS, repeats=2)


def _stack(channels: tuple[int, ...], *, repeats: int) -> nn.Module:
    layers: list[nn.Module] = []
    before = 1
    for stage, width in enumerate(channels):
        for repeat in range(repeats):
            stride = 2 if stage > 0 and repeat == 0 else 1
            layers += [
                nn.Conv2d(before, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, CLASSES))
