"""A modular model so small that a test can afford it: two places for modules, six a layer."""

from collections import OrderedDict
from pathlib import Path
from typing import Final

import torch
from tests import tiny
from torch import Tensor, nn

from driftwell.models.bundle import Bundle, create_bundle
from driftwell.models.modular.decomposition import decompose
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.spec import Structure
from driftwell.models.modular.writing import create_modular_bundle
from driftwell.models.normalisation import Scope

STRUCTURE: Final = Structure(modules=6, slices=4, active=2)


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, ...) -> the same shape."""
        inner = torch.relu(self.bn1(self.conv1(features)))
        return torch.as_tensor(torch.relu(features + self.bn2(self.conv2(inner))))


def blocks() -> nn.Module:
    """A model with two places for modules: a residual block, and a chain whose shapes agree."""
    stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    chain = nn.Sequential(
        nn.Conv2d(8, 9, 3, padding=1), nn.BatchNorm2d(9), nn.ReLU(),
        nn.Conv2d(9, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
    )  # fmt: skip
    return nn.Sequential(
        stem,
        Block(8),
        chain,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, len(tiny.CLASSES)),
    )


def long_names() -> nn.Module:
    """A model that can be cut, with an array whose name is as long as a manifest allows."""
    name = "n" * (200 - len(".weight"))
    layers: dict[str, nn.Module] = {
        "flatten": nn.Flatten(),
        "first": nn.Linear(64, 8),
        "relu": nn.ReLU(),
        "second": nn.Linear(8, 8),
        name: nn.LayerNorm(8, bias=False),
        "head": nn.Linear(8, len(tiny.CLASSES)),
    }
    return nn.Sequential(OrderedDict(layers))


def make_blocks(folder: Path, scope: Scope = "normalisation") -> Bundle:
    """Write and open the bundle of `blocks`, with weights as torch draws them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = blocks()
    return create_bundle(
        folder / "blocks",
        model="tests.tiny_modular:blocks",
        weights={name: tensor.numpy() for name, tensor in module.state_dict().items()},
        shape=tiny.SHAPE,
        classes=tiny.CLASSES,
        preprocessing=tiny.PREPROCESSING,
        scope=scope,
    )


def cut(base: Bundle, structure: Structure) -> ModularNetwork:
    """A bundle's network in modules, with a selector as it begins."""
    return decompose(base.module(), torch.zeros(1, 1, 8, 8), structure, seed=0)


def cut_blocks(base: Bundle, *, seed: int = 0) -> ModularNetwork:
    """That network in 6 modules a layer, the bypass among them, whose selector has opinions."""
    network = decompose(base.module(), torch.zeros(1, 1, 8, 8), STRUCTURE, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for head in network.selector.scores.parameters():
            head.copy_(torch.randn(head.shape, generator=generator))
    return network


def make_modular(folder: Path, scope: Scope = "normalisation") -> Bundle:
    """Write and open a modular bundle of it."""
    base = make_blocks(folder, scope)
    return create_modular_bundle(folder / "modular", base=base, network=cut_blocks(base))
