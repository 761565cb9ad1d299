"""Trains the demo's two networks on first use, and keeps them as bundles.

The foundation model learns from images disturbed in several small ways, so it is sturdier;
none of them is one of the weathers.
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
from driftwell.tools.demo.weather import WHITE, Floats

RECIPES_VERSION: Final = 1
"""Count up when training changes: bundles of older recipes are not used again."""
PREPROCESSING: Final = Preprocessing(mean=(0.3,), std=(0.33,))
BATCH: Final = 64
LEARNING_RATE: Final = 0.01
MODULE: Final = "driftwell.tools.demo.networks"

Disturb = Callable[[Pixels, np.random.Generator], Pixels]
Advance = Callable[[], None]


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


@dataclass(frozen=True, slots=True)
class Bundles:
    """Both networks of a demo."""

    edge: Bundle
    foundation: Bundle


def disturb(images: Pixels, source: np.random.Generator) -> Pixels:
    """Smooth, fade and pepper images, each by its own amounts."""
    count = len(images)
    seen: Floats = images.astype(np.float64)
    share = source.uniform(0, 1, (count, 1, 1, 1))
    seen += share * (smoothed(seen) - seen)
    contrast = source.uniform(0.6, 1.0, (count, 1, 1, 1))
    seen = seen * contrast + source.uniform(0, 30, (count, 1, 1, 1))
    peppered = source.random(seen.shape) < source.uniform(0, 0.1, (count, 1, 1, 1))
    seen = np.where(peppered, source.uniform(0, WHITE, seen.shape), seen)
    return np.clip(np.rint(seen), 0, WHITE).astype(np.uint8)


def smoothed(images: Floats) -> Floats:
    """Each pixel of (N, H, W, C) the mean of its 3 x 3 surroundings."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.asarray(windows.mean(axis=(-2, -1)))


EDGE: Final = Recipe("edge", edge_cnn, 400, None)
FOUNDATION: Final = Recipe("foundation", foundation_cnn, 400, disturb)
TRAINING_STEPS: Final = EDGE.steps + FOUNDATION.steps


def bundle_folder(cache: Path, seed: int) -> Path:
    """Where the bundles of a seed are kept."""
    return cache / f"digits-{RECIPES_VERSION}-seed-{seed}"


def kept_bundles(cache: Path, seed: int) -> Bundles | None:
    """The bundles of an earlier demo; None if there are none that can be used."""
    folder = bundle_folder(cache, seed)
    try:
        return Bundles(open_bundle(folder / EDGE.name), open_bundle(folder / FOUNDATION.name))
    except BundleError:  # never made, half made or damaged: all of it is made anew
        return None


def train_bundles(cache: Path, samples: Samples, *, seed: int, advance: Advance) -> Bundles:
    """Train both networks and keep them; `advance` is called after each step.

    Raises:
        BundleError: if the cache folder holds something else under the bundles' names.
    """
    folder = bundle_folder(cache, seed)
    made = [
        create_bundle(
            folder / recipe.name,
            model=recipe.model,
            weights={
                name: tensor.numpy()
                for name, tensor in train(recipe, samples, seed=seed, advance=advance)
                .state_dict()
                .items()
            },
            shape=SHAPE,
            classes=[str(digit) for digit in range(CLASSES)],
            preprocessing=PREPROCESSING,
        )
        for recipe in (EDGE, FOUNDATION)
    ]
    return Bundles(*made)


def train(recipe: Recipe, samples: Samples, *, seed: int, advance: Advance) -> nn.Module:
    """Train one network; the same seed gives the same weights on one torch build."""
    torch.set_num_threads(1)  # sums in another order would be other weights
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
        logits = network(prepare(images))
        loss = functional.cross_entropy(logits, torch.from_numpy(batch.labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        advance()
    return network
