"""The selector: one small network that gives the gates of all module layers at once.

It sees the input only and runs no module, so a device can say which modules its data need
without holding them (Nebula, ICPP 2024, section 4.2: "unified selector"). The authors give no
architecture; ours is two strided convolutions, or one linear layer where the input is small,
an embedding of 64 numbers, and a linear head for each module layer.
"""

import math
from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

EMBEDDING: Final = 64
IMAGE: Final = 3
"""Axes of an image."""
CHANNELS: Final = (16, 32)
POOLED: Final = 2
"""Height and width in front of the embedding."""
SMALL: Final = 256
"""Values of an input up to which one linear layer sees them all."""


class Selector(nn.Module):
    """From inputs to scores and noise scales of every layer's modules."""

    def __init__(self, shape: tuple[int, ...], modules: Sequence[int]) -> None:
        """Args say what goes in and what comes out.

        Args:
            shape: Of one input: (C, H, W), or (F,).
            modules: How many modules each layer has.
        """
        super().__init__()
        self.embedding = _embedding(shape)
        self.scores = nn.ModuleList(nn.Linear(EMBEDDING, count) for count in modules)
        self.spreads = nn.ModuleList(nn.Linear(EMBEDDING, count) for count in modules)
        for head in (*self.scores, *self.spreads):
            nn.init.zeros_(head.weight)  # all modules alike, as they are in the beginning
            nn.init.zeros_(head.bias)

    def forward(self, inputs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs (N, ...) to scores and noise scales, for each layer (N, modules)."""
        embedded = self.embedding(inputs)
        return [head(embedded) for head in self.scores], [head(embedded) for head in self.spreads]


def _embedding(shape: tuple[int, ...]) -> nn.Sequential:
    values = math.prod(shape)
    if len(shape) != IMAGE or values <= SMALL:
        return nn.Sequential(nn.Flatten(), nn.Linear(values, EMBEDDING), nn.ReLU())
    channels, height, width = shape
    layers: list[nn.Module] = []
    for wide in CHANNELS:
        stride = 2 if min(height, width) > POOLED else 1
        layers += [nn.Conv2d(channels, wide, 3, stride, padding=1, bias=False),
                   nn.BatchNorm2d(wide), nn.ReLU()]  # fmt: skip
        channels, height, width = wide, -(-height // stride), -(-width // stride)
    layers += [nn.AdaptiveAvgPool2d(POOLED), nn.Flatten(),
               nn.Linear(channels * POOLED**2, EMBEDDING), nn.ReLU()]  # fmt: skip
    return nn.Sequential(*layers)
