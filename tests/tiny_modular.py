"""A modular model so small that a test can afford it: two residual blocks, six modules a layer."""

from pathlib import Path
from typing import Final

import torch
from tests import tiny
from torch import Tensor, nn

from driftwell.models.bundle import Bundle, create_bundle
from driftwell.models.modular.spec import Structure

CHANNELS: Final = 8
STRUCTURE: Final = Structure(modules=6, slices=4, active=2)


class Block(nn.Module):
    """Two convolutions around a shortcut, as ResNets have them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(CHANNELS)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        hidden = torch.relu(self.bn1(self.conv1(features)))
        return torch.relu(features + self.bn2(self.conv2(hidden)))


class BlockNetwork(nn.Module):
    """A stem, two blocks, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.block1 = Block()
        self.block2 = Block()
        self.head = nn.Linear(CHANNELS, len(tiny.CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> (N, 4) logits."""
        features = torch.relu(self.norm(self.stem(images)))
        features = self.block2(self.block1(features))
        return torch.as_tensor(self.head(features.mean(dim=(2, 3))))


def network() -> nn.Module:
    """What is cut."""
    return BlockNetwork()


def make_base(folder: Path) -> Bundle:
    """The bundle in one piece."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = BlockNetwork()
    return create_bundle(
        folder / "base",
        model="tests.tiny_modular:network",
        weights={
            name: tensor.numpy()
            for name, tensor in module.state_dict().items()
            if tensor.is_floating_point()
        },
        shape=tiny.SHAPE,
        classes=tiny.CLASSES,
        preprocessing=tiny.PREPROCESSING,
    )
