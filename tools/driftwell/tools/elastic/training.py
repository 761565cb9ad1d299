"""Plain supervised training of the bench's networks, and how right they are."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from driftwell.messages.images import Pixels
from driftwell.models.network import Preparation
from driftwell.models.training import Effort, Loss, Prior
from driftwell.models.training import train as train_on
from driftwell.tools.elastic.samples import Numbers, Samples

AT_ONCE: Final = 256
"""Images of one forward pass when answering."""


def train(
    module: nn.Module,
    samples: Samples,
    prepare: Preparation,
    effort: Effort,
    *,
    seed: Sequence[int],
    loss: Loss = functional.cross_entropy,
    prior: Prior | None = None,
) -> None:
    """Train all of a module in place on samples, as `models.training.train`."""
    train_on(
        module, samples.images, samples.labels, prepare, effort, seed=seed, loss=loss, prior=prior
    )


def predict(
    module: nn.Module, images: Pixels, prepare: Preparation, prior: Prior | None = None
) -> Numbers:
    """The most probable class of each image, with a prior if there is one.

    uint8 (N, H, W, C) -> int64 (N,).
    """
    module.eval()
    answers = [np.empty(0, np.int64)]
    with torch.inference_mode():
        for first in range(0, len(images), AT_ONCE):
            logits: Tensor = module(prepare(images[first : first + AT_ONCE]))
            if prior is not None:
                logits = logits + torch.from_numpy(prior)
            answers.append(logits.argmax(dim=1).numpy())
    return np.concatenate(answers)


def accuracy(answers: Numbers, labels: Numbers) -> float:
    """Percent of answers (N,) that are the labels (N,); N >= 1."""
    return 100 * float(np.mean(answers == labels))


def evaluate(module: nn.Module, samples: Samples, prepare: Preparation) -> float:
    """Percent of one or more samples that a module answers rightly."""
    return accuracy(predict(module, samples.images, prepare), samples.labels)
