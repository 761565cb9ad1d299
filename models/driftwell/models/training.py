"""Plain supervised training: the same seed gives the same weights, on one kind of machine."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from driftwell.messages.images import Pixels
from driftwell.models.augmentation import augment
from driftwell.models.network import Preparation

MIN_BATCH: Final = 2
"""BatchNorm cannot train on one image alone."""

Numbers = NDArray[np.int64]
Loss = Callable[[Tensor, Tensor], Tensor]
"""Scalar of logits (N, C) and labels (N,)."""
Prior = NDArray[np.float32]
"""(C,), what is added to logits: `models.modular.prior`."""
WARM_UP: Final = 0.2
"""Share of a cycle in which the rate rises."""


def cycle(progress: float) -> float:
    """Share of the highest rate at a share of the training: up in a line, down in half a cosine.

    One cycle, as by Smith and Topin (2019), with the cosine that is usual by now.
    """
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


@dataclass(frozen=True, slots=True)
class Views:
    """What may be done to an image of a problem without making another class of it."""

    mirrors: bool = False
    shift: int = 0
    """Pixels at most."""


STILL: Final = Views()
"""Images as they are."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how hard a network is trained, with Adam."""

    epochs: int
    rate: float
    """The highest, where it is not constant."""
    batch: int
    """Images, at least 2."""
    one_cycle: bool = False
    """Whether the rate rises and falls again (`cycle`)."""
    views: Views = STILL
    """Of the images, drawn anew in every epoch."""

    def view(self, inputs: Tensor, source: np.random.Generator) -> Tensor:
        """Drawn views of a batch (N, C, H, W)."""
        if self.views == STILL:
            return inputs
        return augment(inputs, source, mirrors=self.views.mirrors, shift=self.views.shift)

    def set_rate(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        """The rate at a share of the training, above 0 and below 1."""
        if self.one_cycle:
            for group in optimizer.param_groups:
                group["lr"] = self.rate * cycle(progress)


def train(
    module: nn.Module,
    images: Pixels,
    labels: Numbers,
    prepare: Preparation,
    effort: Effort,
    *,
    seed: Sequence[int],
    loss: Loss = functional.cross_entropy,
    prior: Prior | None = None,
    learning: Iterable[nn.Parameter] | None = None,
    still: Iterable[nn.Module] = (),
) -> None:
    """Train a module in place; it is in evaluation mode afterwards.

    Args:
        module: From (N, C, H, W) to logits (N, classes).
        images: uint8 (N, H, W, C), at least 2.
        labels: (N,)
        prepare: From pixels to the module's input.
        effort: Adam starts anew with every call.
        seed: Of the order of the images.
        loss: Of a batch.
        prior: Added to the logits in front of the loss; None: nothing.
        learning: Those of its parameters that learn; None: all.
        still: Parts of it that stay in evaluation mode meanwhile.
    """
    source = np.random.default_rng(seed)
    learned = list(module.parameters() if learning is None else learning)
    optimizer = torch.optim.Adam(learned, effort.rate)
    module.train()
    for part in still:
        part.eval()
    with torch.random.fork_rng(devices=[]):  # what the module's own layers draw, as of Dropout
        torch.manual_seed(int(source.integers(2**31)))
        for epoch in range(effort.epochs):
            parts = list(batches(source.permutation(len(labels)), effort.batch))
            for done, chosen in enumerate(parts):
                effort.set_rate(optimizer, (epoch + (done + 0.5) / len(parts)) / effort.epochs)
                logits: Tensor = module(effort.view(prepare(images[chosen]), source))
                if prior is not None:
                    logits = logits + torch.from_numpy(prior)
                lost = loss(logits, torch.from_numpy(labels[chosen]))
                optimizer.zero_grad()
                lost.backward()
                optimizer.step()
    module.eval()


def batches(order: Numbers, size: int) -> Iterator[Numbers]:
    """Cut an order of images into batches; a single image left over joins the last one.

    Args:
        order: (N,)
        size: Of a batch, at least 2.
    """
    cuts = list(range(0, len(order), size))
    if len(cuts) > 1 and len(order) - cuts[-1] < MIN_BATCH:
        cuts.pop()
    for first, end in zip(cuts, [*cuts[1:], len(order)], strict=True):
        yield order[first:end]
