"""Hardening: teach the edge model, before anything has drifted, what makes the foundation robust.

The foundation model answers source images (`anchors`) under generic distortions
(`mixing`); the edge model learns its answers, with the labels beside them. Nothing of a
target domain is known or used. The result is a bundle of the same model: to be deployed, or
given as the cloud's `start`, from which every cohort begins.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from driftwell.cloud.learner import require_same_task
from driftwell.cloud.mixing import mix
from driftwell.messages.images import Pixels
from driftwell.models.augmentation import augment
from driftwell.models.bundle import Bundle
from driftwell.models.normalisation import batch_norms


@dataclass(frozen=True, slots=True)
class HardeningSettings:
    """How long and how."""

    epochs: float = 12.0
    """Passes over the anchors."""
    batch: int = 128
    learning_rate: float = 1e-3
    """Of Adam; falls to 0 along a half cosine."""
    mixed: float = 0.75
    """Share of each batch that is distorted."""
    label_weight: float = 0.2
    """Of the cross entropy with the anchors' labels, beside the teacher's answers."""
    mirrors: bool = True
    shift: int = 4
    """Pixels at most."""
    bfloat16: bool = False
    """Multiply in bfloat16: twice as fast where the processor can, other bits everywhere."""


def harden(
    foundation: Bundle,
    edge: Bundle,
    anchors: Pixels,
    labels: NDArray[np.int64],
    settings: HardeningSettings,
    generator: np.random.Generator,
    progress: Callable[[int, int, float], None] = lambda _step, _steps, _loss: None,
) -> dict[str, NDArray[np.float32]]:
    """Train the edge model; its weights by name, BatchNorm statistics included.

    Args:
        foundation: Teaches.
        edge: Learns, from its own weights.
        anchors: uint8 (N, H, W, C), N >= `batch`: source images.
        labels: (N,), below the number of classes.
        settings: How long and how.
        generator: Draws batches and distortions.
        progress: Called after each step with its number, how many there are, and the loss.

    Raises:
        BundleError: if the bundles do not take the same images to the same classes.
        ValueError: if there are fewer anchors than a batch.
    """
    require_same_task(foundation, edge)
    if len(anchors) < settings.batch:
        raise ValueError(f"{len(anchors)} anchors are less than a batch of {settings.batch}")
    teacher = _by_batch_statistics(foundation.module())
    student = edge.module().train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scale, offset = _normalisation(edge)
    steps = max(1, round(settings.epochs * len(anchors) / settings.batch))
    adam = torch.optim.Adam(student.parameters(), settings.learning_rate)
    for step, chosen in enumerate(_batches(len(anchors), settings.batch, steps, generator)):
        for group in adam.param_groups:
            group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
        images = torch.from_numpy(anchors[chosen]).permute(0, 3, 1, 2).float() / 255
        views = _distorted(images, settings, generator) * scale + offset
        views = views.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            with torch.no_grad():
                answers = teacher(views).float().softmax(dim=1)
            logits = student(views).float()
        taught = -(answers * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
        told = functional.cross_entropy(logits, torch.from_numpy(labels[chosen]))
        adam.zero_grad()
        (taught + settings.label_weight * told).backward()
        adam.step()
        progress(step + 1, steps, taught.item())
    _measure(student, anchors, scale, offset)
    return {
        name: tensor.detach().contiguous().numpy().copy()
        for name, tensor in student.state_dict().items()
        if tensor.dtype == torch.float32
    }


def _batches(
    count: int, batch: int, steps: int, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    order = generator.permutation(count)
    at = 0
    for _ in range(steps):
        if at + batch > count:
            order, at = generator.permutation(count), 0
        yield order[at : at + batch]
        at += batch


def _distorted(
    images: Tensor, settings: HardeningSettings, generator: np.random.Generator
) -> Tensor:
    views = augment(images, generator, mirrors=settings.mirrors, shift=settings.shift)
    plain = len(views) - round(settings.mixed * len(views))
    return torch.cat([views[:plain], mix(views[plain:], generator)])


def _measure(student: nn.Module, anchors: Pixels, scale: Tensor, offset: Tensor) -> None:
    """BatchNorm statistics of undistorted anchors: those of the source domain."""
    layers = list(batch_norms(student))
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean of all batches
    with torch.no_grad():
        for start in range(0, min(len(anchors), 2048) - 1, 256):
            images = torch.from_numpy(anchors[start : start + 256]).permute(0, 3, 1, 2) / 255
            student((images * scale + offset).contiguous(memory_format=torch.channels_last))


def _by_batch_statistics(module: nn.Module) -> nn.Module:
    for layer in batch_norms(module):
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = None
    return module.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _normalisation(edge: Bundle) -> tuple[Tensor, Tensor]:
    scale, offset = edge.manifest.preprocessing.as_affine()  # of pixels 0..255
    return (
        255 * torch.from_numpy(scale)[:, None, None],
        torch.from_numpy(offset)[:, None, None],
    )
