"""Plain supervised training: the same seed gives the same weights, on one kind of machine."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from driftwell.messages.images import Pixels
from driftwell.models.network import Preparation

MIN_BATCH: Final = 2
"""BatchNorm cannot train on one image alone."""

Numbers = NDArray[np.int64]
Loss = Callable[[Tensor, Tensor], Tensor]
"""Scalar of logits (N, C) and labels (N,)."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how hard a network is trained, with Adam."""

    epochs: int
    rate: float
    batch: int
    """Images, at least 2."""


def train(
    module: nn.Module,
    images: Pixels,
    labels: Numbers,
    prepare: Preparation,
    effort: Effort,
    *,
    seed: Sequence[int],
    loss: Loss = functional.cross_entropy,
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
        for _ in range(effort.epochs):
            for chosen in batches(source.permutation(len(labels)), effort.batch):
                logits: Tensor = module(prepare(images[chosen]))
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
