"""Pure. Generic distortions of source images, chained and mixed as in AugMix (ICLR 2020).

None of the operations is a corruption of the benchmarks: no noise, no blur, no weather, no
compression. Images are float32 (N, C, H, W) in 0..1 all the way.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CHAINS: Final = 3
LONGEST_CHAIN: Final = 3
ROTATION: Final = 0.35  # radians
SHEAR: Final = 0.3
TRANSLATION: Final = 0.33  # of half the image


def mix(images: Tensor, generator: np.random.Generator) -> Tensor:
    """M * image + (1 - m) * sum_k w_k chain_k(image); w ~ Dirichlet(1), m ~ U(0, 1)."""
    count = len(images)
    weights = torch.from_numpy(generator.dirichlet(np.ones(CHAINS), count).astype(np.float32))
    mixed = torch.zeros_like(images)
    for chain in range(CHAINS):
        depth = torch.from_numpy(generator.integers(1, LONGEST_CHAIN + 1, count))
        distorted = images
        for link in range(LONGEST_CHAIN):
            further = _distort(distorted, generator)
            distorted = torch.where((depth > link)[:, None, None, None], further, distorted)
        mixed += weights[:, chain, None, None, None] * distorted
    share = _uniform(generator, count)
    return share * images + (1 - share) * mixed


def _distort(images: Tensor, generator: np.random.Generator) -> Tensor:
    choice = torch.from_numpy(generator.integers(0, len(_OPERATIONS), len(images)))
    out = images.clone()
    for number, operation in enumerate(_OPERATIONS):
        chosen = choice == number
        if bool(chosen.any()):
            out[chosen] = operation(images[chosen], generator)
    return out


def _uniform(generator: np.random.Generator, count: int) -> Tensor:
    return torch.from_numpy(generator.random((count, 1, 1, 1), dtype=np.float32))


def _warp(images: Tensor, generator: np.random.Generator) -> Tensor:
    """One of rotation, two shears and translation for each image."""
    count = len(images)
    kind = generator.integers(0, 4, count)
    amount = (2 * generator.random(count) - 1).astype(np.float32)
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1))
    angle = np.where(kind == 0, ROTATION * amount, 0)
    theta[:, 0, 0], theta[:, 1, 1] = np.cos(angle), np.cos(angle)
    theta[:, 0, 1] = np.where(kind == 1, SHEAR * amount, np.sin(angle))
    theta[:, 1, 0] = np.where(kind == 2, SHEAR * amount, -np.sin(angle))  # noqa: PLR2004
    direction = math.tau * generator.random(count)
    reach = np.where(kind == 3, TRANSLATION * amount, 0)  # noqa: PLR2004
    theta[:, 0, 2], theta[:, 1, 2] = reach * np.cos(direction), reach * np.sin(direction)
    grid = functional.affine_grid(torch.from_numpy(theta), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _posterise(images: Tensor, generator: np.random.Generator) -> Tensor:
    levels = torch.from_numpy(2.0 ** generator.integers(2, 5, (len(images), 1, 1, 1))).float()
    return (images * levels).floor() / levels


def _solarise(images: Tensor, generator: np.random.Generator) -> Tensor:
    limit = 0.4 + 0.6 * _uniform(generator, len(images))
    return torch.where(images < limit, images, 1 - images)


def _stretch(images: Tensor, _generator: np.random.Generator) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return (images - low) / (high - low + 1e-3)


def _equalise(images: Tensor, _generator: np.random.Generator) -> Tensor:
    planes = images.flatten(2)
    rank = planes.argsort(dim=2, stable=True).argsort(dim=2, stable=True)
    return (rank.float() / max(1, planes.shape[2] - 1)).view_as(images)


_OPERATIONS: Final[tuple[Callable[[Tensor, np.random.Generator], Tensor], ...]] = (
    _warp, _warp, _warp, _posterise, _solarise, _stretch, _equalise,
)  # fmt: skip
