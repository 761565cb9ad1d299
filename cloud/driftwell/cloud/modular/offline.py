"""The offline stage from beginning to end, which may be stopped at any moment and gone on with."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.cloud.modular.checkpoint import Run, read_checkpoint, write_checkpoint
from driftwell.cloud.modular.training import Epoch, begin_training, epochs_of, train_epoch
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import SettingsError
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.network import Preparation

CHUNK: Final = 1000
"""Images prepared, or scored, at a time."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What the offline stage leads to."""

    network: ModularNetwork
    epochs: tuple[Epoch, ...]
    importance: list[NDArray[np.float64]]
    """For each layer (modules,), on the training data, with sum 1."""


def run_offline(
    bundle: Bundle,
    images: Pixels,
    labels: NDArray[np.int64],
    run: Run,
    folder: Path,
    *,
    teacher: nn.Module | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Trained:
    """Train all modules of a bundle, from the last checkpoint on if there is one.

    Args:
        bundle: A whole modular one; `run` is of it.
        images: uint8 (N, H, W, C).
        labels: (N,), the bundle's classes, each at least once.
        run: Seed, settings, and the teacher's digest.
        folder: Of the checkpoint, which is written after each epoch.
        teacher: From the bundle's inputs to logits, as `teaching.open_teacher` gives it; None:
            labels alone.
        progress: Called after each batch with samples seen, and all there will be.

    Raises:
        SettingsError: if the checkpoint is of another run or damaged, or cannot be written.
    """
    network = bundle.module()
    if not isinstance(network, ModularNetwork):
        raise SettingsError(
            f"{bundle.path} is a bundle in one piece; make a modular one with: driftwell bundle "
            "create --modular"
        )
    inputs = _prepared(bundle, images)
    begun = read_checkpoint(folder, run, network)
    training, epochs = begun or (begin_training(network, run.settings, seed=run.seed), [])
    of = epochs_of(run.settings)
    while training.done < of:
        before = training.done * len(inputs)

        def tell(seen: int, count: int, before: int = before) -> None:
            progress(before + seen, of * count)

        epochs.append(
            train_epoch(training, inputs, labels, run.settings, teacher=teacher, progress=tell)
        )
        write_checkpoint(folder, run, training, epochs)
    return Trained(network, tuple(epochs), _importance(network, inputs))


def data_digest(images: Pixels, labels: NDArray[np.int64]) -> str:
    """The name of labelled images."""
    return digest_arrays({"x": images, "y": labels})


def require_every_class(labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """Whether each class has an image: without one, no module can be given it.

    Raises:
        SettingsError: naming the first that has none.
    """
    missing = sorted(set(range(len(classes))) - set(labels.tolist()))
    if missing:
        raise SettingsError(
            f"{len(missing)} of {len(classes)} classes have no image, the first is "
            f"{classes[missing[0]]!r}; every class needs some"
        )


def _prepared(bundle: Bundle, images: Pixels) -> Tensor:
    """float32 (N, C, H, W): four times the memory of the pixels."""
    prepare = Preparation(bundle.manifest.preprocessing)
    count, height, width, channels = images.shape
    inputs = torch.empty(count, channels, height, width)
    for first in range(0, count, CHUNK):
        inputs[first : first + CHUNK] = prepare(images[first : first + CHUNK])
    return inputs


def _importance(network: ModularNetwork, inputs: Tensor) -> list[NDArray[np.float64]]:
    """The mean of `ModularNetwork.importance` over all inputs."""
    network.eval()
    sums = [np.zeros(place.total) for place in network.places]
    with torch.inference_mode():
        for chunk in inputs.split(CHUNK):
            for number, layer in enumerate(network.importance(chunk)):
                sums[number] += layer.double().numpy() * (len(chunk) / len(inputs))
    return sums
