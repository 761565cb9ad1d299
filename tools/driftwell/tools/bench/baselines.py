"""Baselines without a cloud, of our own writing, run in process. Predict first, adapt after.

- `none`: the bundle as it is.
- `bn`: each batch is normalised by its own statistics (Schneider et al., NeurIPS 2020,
  with no weight on the source's).
- `own`: the edge's own statistics alone, no cloud: an average over the stream, with the source's
  as a prior; images in runs count as fewer, and the newest of them wait (`models.own_statistics`,
  `models.design_effect`). It does not watch for drift: its average never begins anew.
- `tent`: `bn`, and after each batch a step of SGD on the mean entropy (Wang et al., ICLR 2021).
- `eta`: Tent on reliable samples only, H < margin * ln C, weighted exp(E0 - H), and not
  redundant: |cos| to the running mean of kept predictions below a limit (Niu et al., ICML
  2022, without its Fisher term).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from driftwell.cloud.losses import entropy
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle
from driftwell.models.network import Network, Preparation
from driftwell.models.normalisation import adaptable_tensors, affine_names, batch_norms
from driftwell.models.statistics import StatisticsSettings

TENT_RATE: Final = 0.001
ETA_RATE: Final = 0.005
ETA_MARGIN: Final = 0.4  # of ln C
ETA_REDUNDANCY: Final = 0.4  # largest |cos| of a sample that is kept, at 10 classes
ETA_MEMORY: Final = 0.9  # share of the past in the running mean of predictions
MOMENTUM: Final = 0.9


class Baseline(Protocol):
    """Answers a stream batch by batch."""

    def answer(self, images: Pixels) -> NDArray[np.int64]:
        """Labels (N,) for uint8 (N, H, W, C); adapts after answering."""


@dataclass(slots=True)
class NoAdaptation:
    """The source model."""

    module: nn.Module
    prepare: Preparation

    def answer(self, images: Pixels) -> NDArray[np.int64]:
        """One forward pass."""
        with torch.inference_mode():
            logits: Tensor = self.module(self.prepare(images))
        return logits.argmax(dim=1).numpy()


@dataclass(slots=True)
class OwnStatisticsAlone:
    """The source model in the statistics of its own stream."""

    network: Network

    def answer(self, images: Pixels) -> NDArray[np.int64]:
        """One forward pass; the statistics take the batch in first."""
        return np.asarray(self.network.logits(images).argmax(axis=1), np.int64)


@dataclass(slots=True)
class Tent:
    """Entropy minimisation of the affine parameters; `select` says of what."""

    module: nn.Module
    prepare: Preparation
    optimizer: torch.optim.SGD
    loss: Callable[[Tensor], Tensor | None]

    def answer(self, images: Pixels) -> NDArray[np.int64]:
        """One forward pass whose logits are the answer, then one step."""
        logits: Tensor = self.module(self.prepare(images))
        loss = self.loss(logits)
        if loss is not None:
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return logits.detach().argmax(dim=1).numpy()


class ReliableEntropy:
    """ETA's loss; None where no sample of a batch is reliable and new."""

    def __init__(self, classes: int) -> None:
        self._margin_nats = ETA_MARGIN * math.log(classes)
        self._mean: Tensor | None = None  # (C,) running mean of kept predictions

    def __call__(self, logits: Tensor) -> Tensor | None:
        """Scalar loss of logits (N, C)."""
        entropies = entropy(logits)
        kept = entropies.detach() < self._margin_nats
        predictions = logits.detach().softmax(dim=1)
        if self._mean is not None:
            similarity = functional.cosine_similarity(self._mean[None], predictions, dim=1)
            kept &= similarity.abs() < ETA_REDUNDANCY
        if not bool(kept.any()):
            return None
        mean = predictions[kept].mean(dim=0)
        self._mean = (
            mean if self._mean is None else ETA_MEMORY * self._mean + (1 - ETA_MEMORY) * mean
        )
        reliable = entropies[kept]
        return (torch.exp(self._margin_nats - reliable.detach()) * reliable).mean()


def _module(bundle: Bundle, *, batch_statistics: bool) -> tuple[nn.Module, Preparation]:
    module = bundle.module().eval()
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if batch_statistics:
        for layer in batch_norms(module):
            layer.train()
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = None
    return module, Preparation(bundle.manifest.preprocessing)


def _adapting(bundle: Bundle, rate: float, loss: Callable[[Tensor], Tensor | None]) -> Tent:
    module, prepare = _module(bundle, batch_statistics=True)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    affine = affine_names(module)
    learned = [
        tensor.requires_grad_(True)
        for name, tensor in adaptable_tensors(module).items()
        if name in affine
    ]
    return Tent(module, prepare, torch.optim.SGD(learned, rate, MOMENTUM), loss)


BASELINES: Final[Mapping[str, Callable[[Bundle], Baseline]]] = MappingProxyType(
    {
        "none": lambda bundle: NoAdaptation(*_module(bundle, batch_statistics=False)),
        "bn": lambda bundle: NoAdaptation(*_module(bundle, batch_statistics=True)),
        "own": lambda bundle: OwnStatisticsAlone(
            bundle.network(own_statistics=StatisticsSettings(design_effect=True))
        ),
        "tent": lambda bundle: _adapting(bundle, TENT_RATE, lambda logits: entropy(logits).mean()),
        "eta": lambda bundle: _adapting(
            bundle, ETA_RATE, ReliableEntropy(len(bundle.manifest.classes))
        ),
    }
)
