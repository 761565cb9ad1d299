"""The full networks that the elastic bench trains, each with a width for nested sub-networks.

The network of a smaller width holds the leading channels of the full one (HeteroFL, Diao et
al., ICLR 2021). So every parameter of it is a prefix of the full network's along each axis.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from driftwell.models.cifar_resnet import BasicBlock

CLASSES: Final = 10
PIXELS: Final = 64
NARROW, WIDE = 128, 512
STEM: Final = 16
"""Channels in front of the first stage of a CIFAR ResNet."""
STAGES: Final = ((16, 1), (32, 2), (64, 2), (128, 2))
"""Channels and stride of the ResNet's stages, of one block each."""


def digits_mlp(width: float = 1.0) -> nn.Sequential:
    """(N, 1, 8, 8) -> (N, 10) logits in four linear layers, untrained.

    Args:
        width: Share of the full network's hidden channels, above 0 and at most 1.
    """
    narrow, wide = channels(NARROW, width), channels(WIDE, width)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(PIXELS, narrow),
        nn.BatchNorm1d(narrow),
        nn.ReLU(),
        nn.Linear(narrow, wide),
        nn.BatchNorm1d(wide),
        nn.ReLU(),
        nn.Linear(wide, narrow),
        nn.BatchNorm1d(narrow),
        nn.ReLU(),
        nn.Linear(narrow, CLASSES),
    )


class LeadingBlock(BasicBlock):
    """A block whose shortcut leads channel c to channel c; new channels come behind them.

    `BasicBlock` puts half of the new channels in front. Then the leading channels of a narrow
    network would meet others at the shortcut than in the full one, and it would be no part of it.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H / stride, W / stride)."""
        hidden = functional.relu(self.bn1(self.conv1(features)))
        hidden = self.bn2(self.conv2(hidden))
        shortcut = features[:, :, :: self.stride, :: self.stride]
        missing = hidden.shape[1] - shortcut.shape[1]
        return functional.relu(hidden + functional.pad(shortcut, (0, 0, 0, 0, 0, missing)))


class SlimResNet(nn.Module):
    """Stem, four stages of one block, pooling, linear head; each with a share of its channels."""

    def __init__(self, width: float) -> None:
        super().__init__()
        before = channels(STEM, width)
        self.conv1 = nn.Conv2d(3, before, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        for number, (full, stride) in enumerate(STAGES, start=1):
            after = channels(full, width)
            self.add_module(f"layer{number}", LeadingBlock(before, after, stride))
            before = after
        self.linear = nn.Linear(before, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalised images -> (N, 10) logits."""
        features = functional.relu(self.bn1(self.conv1(images)))
        for number in range(1, len(STAGES) + 1):
            features = self.get_submodule(f"layer{number}")(features)
        return torch.as_tensor(self.linear(features.mean(dim=(2, 3))))


def slim_resnet(width: float = 1.0) -> SlimResNet:
    """A ResNet of ten layers for CIFAR with a share of its channels, untrained.

    As in ResNet-18 there are four stages, and most of the parameters are in the last. The stem
    halves the image: with all its pixels training takes 2.5 times as long.
    """
    return SlimResNet(width)


def channels(full: int, width: float) -> int:
    """How many of the full network's channels a width keeps, at least 1.

    Raises:
        ValueError: if the width is not above 0 and at most 1.
    """
    if not 0 < width <= 1:
        raise ValueError(f"width {width} is not above 0 and at most 1")
    return max(1, round(full * width))
