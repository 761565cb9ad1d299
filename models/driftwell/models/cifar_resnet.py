"""CIFAR ResNets with option-A shortcuts (He et al. 2016, section 4.2).

Depth 6n+2: three stages of n blocks with 16, 32 and 64 channels. A shortcut that changes
the size takes every second pixel and pads the missing channels with zeros, so it has no
parameters. Parameter names: `conv1`, `bn1`, `layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}`, `linear`.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES: Final = ((16, 1), (32, 2), (64, 2))  # channels, stride of the first block


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a parameter-free shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.stride = stride
        self.padding = (channels_out - channels_in) // 2

    def forward(self, features: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H / stride, W / stride)."""
        hidden = functional.relu(self.bn1(self.conv1(features)))
        hidden = self.bn2(self.conv2(hidden))
        shortcut = features
        if self.padding:
            strided = features[:, :, :: self.stride, :: self.stride]
            shortcut = functional.pad(strided, (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(hidden + shortcut)


class CifarResNet(nn.Module):
    """The whole network: stem, three stages, global average pooling, linear head."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for number, (width, stride) in enumerate(STAGES, start=1):
            stage = []
            for block in range(blocks):
                stage.append(BasicBlock(channels, width, stride if block == 0 else 1))
                channels = width
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.linear = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalised images -> (N, classes) logits."""
        features = functional.relu(self.bn1(self.conv1(images)))
        for number in range(1, len(STAGES) + 1):
            features = self.get_submodule(f"layer{number}")(features)
        pooled: Tensor = features.mean(dim=(2, 3))  # (N, 64)
        return torch.as_tensor(self.linear(pooled))


def cifar_resnet(depth: int, classes: int = 10) -> CifarResNet:
    """A CIFAR ResNet of `depth` = 6n+2 layers, untrained."""
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth {depth} is not 6n+2")
    return CifarResNet(blocks, classes)
