"""Trains the demo's two networks on first use, and keeps them as bundles.

The foundation model learns from images disturbed in many small ways, so it is sturdier;
none of them is one of the weathers at its strength.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from driftwell.messages.errors import BundleError
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle, create_bundle, open_bundle
from driftwell.models.network import Preparation
from driftwell.models.preprocessing import Preprocessing
from driftwell.tools.demo.digits import SHAPE, Samples, resample
from driftwell.tools.demo.networks import CLASSES, edge_cnn, foundation_cnn
from driftwell.tools.demo.weather import Floats, blur

RECIPE: Final = 1
"""Count up when training changes: bundles of an older recipe are not used."""
PREPROCESSING: Final = Preprocessing(mean=(0.3,), std=(0.33,))
BATCH: Final = 64
LEARNING_RATE: Final = 0.01
MODULE: Final = "driftwell.tools.demo.networks"

Disturb = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one network is trained."""

    name: str
    factory: Callable[[], nn.Module]
    steps: int
    disturb: Disturb | None

    @property
    def model(self) -> str:
        """What `driftwell bundle create --model` would be given."""
        return f"{MODULE}:{self.factory.__name__}"


def disturb(images: Pixels, source: np.random.Generator) -> Pixels:
    """Change contrast, light, sharpness and noise a little, each image by its own amounts."""
    count = len(images)
    seen: Floats = images.astype(np.float64)
    mix = source.uniform(0, 1, (count, 1, 1, 1))
    seen = seen * (1 - mix) + blur(seen, 1.0) * mix
    contrast = source.uniform(0.4, 1.0, (count, 1, 1, 1))
    light = source.uniform(0, 1, (count, 1, 1, 1)) * (255 * (1 - contrast))
    sigma = source.uniform(0, 40, (count, 1, 1, 1))
    seen = seen * contrast + light + source.normal(size=seen.shape) * sigma
    return np.clip(seen, 0, 255).astype(np.uint8)


EDGE: Final = Recipe("edge", edge_cnn, 400, None)
FOUNDATION: Final = Recipe("foundation", foundation_cnn, 500, disturb)


def train(
    recipe: Recipe, samples: Samples, *, seed: int, advance: Callable[[], None]
) -> nn.Module:
    """Train one network; the same seed gives the same weights on one torch build."""
    source = np.random.default_rng([seed, recipe.steps])
    prepare = Preparation(PREPROCESSING)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = recipe.factory()
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=recipe.steps
    )
    for _ in range(recipe.steps):
        batch = resample(samples, BATCH, source)
        images = recipe.disturb(batch.images, source) if recipe.disturb else batch.images
        loss = functional.cross_entropy(
            network(prepare(images)), torch.from_numpy(batch.labels), label_smoothing=0.05
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        advance()
    return network
