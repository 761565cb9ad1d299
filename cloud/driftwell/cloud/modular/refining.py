"""A fleet's sub-models learn together on the cloud's data, each on the classes of its device.

The offline stage makes modules that any sub-model can be derived from. Once a fleet has said what
it needs, only some sub-models are of use, and small ones are far better when they are trained as
they are. So in each step one of them is drawn; it learns, inside the whole network, from
images drawn by its device's class shares. What devices share stays shared. Only modules learn:
trunk and selector are those that every device came with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from driftwell.cloud.modular.objectives import answer_loss
from driftwell.cloud.modular.offline_settings import RefiningSettings
from driftwell.messages.images import Pixels
from driftwell.models.augmentation import augment
from driftwell.models.modular.learning import module_norms, module_parameters
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.prior import log_prior
from driftwell.models.normalisation import batch_norms
from driftwell.models.training import cycle

Prepare = Callable[[Pixels], Tensor]
"""From pixels to a network's input."""
SETTLING: Final = 512
"""Images of a target from which statistics are taken, and by which it is judged."""
LOOKED_AT: Final = 32
"""Targets, at most, from which statistics are taken, and which are judged."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A sub-model to refine, and what it is for."""

    modules: tuple[frozenset[int], ...]
    """For each layer, one at least."""
    class_shares: NDArray[np.float64]
    """Of its device's images, (C,), at least 0, with sum 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Source images of the cloud."""

    images: Pixels
    """uint8 (N, H, W, C)."""
    labels: NDArray[np.int64]
    """(N,), 0 to C - 1."""

    def chances(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """How likely each image (N,) is to be drawn for class shares (C,).

        A class without an image leaves its share to the others; if all do, any is as likely.
        """
        counts = np.bincount(self.labels, minlength=len(shares))
        each = np.divide(shares, counts, out=np.zeros(len(shares)), where=counts > 0)
        chances = each[self.labels]
        total = chances.sum()
        return chances / total if total > 0 else np.full(len(self.labels), 1 / len(self.labels))


def refine(
    network: ModularNetwork,
    data: Labelled,
    prepare: Prepare,
    targets: Sequence[Target],
    settings: RefiningSettings,
    *,
    seed: int,
    teacher: nn.Module | None = None,
    report: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Train a network's modules in place for targets; their statistics follow.

    Args:
        network: Holding all its modules.
        data: One image at least.
        prepare: From pixels to the network's input.
        targets: One at least.
        settings: How.
        seed: Of targets, images and views.
        teacher: From inputs to logits, in evaluation mode; None: labels alone.
        report: Called after each batch with the batches done, and all; what it raises ends the
            training, half done.
    """
    source = np.random.default_rng(seed)
    chances = [data.chances(target.class_shares) for target in targets]
    masks = [_masks(network, target) for target in targets]
    optimiser = torch.optim.Adam(module_parameters(network), settings.learning_rate)
    with _BatchStatistics(network), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number in range(settings.batches):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * cycle((number + 0.5) / settings.batches)
            one = int(source.integers(len(targets)))
            chosen = source.choice(len(data.labels), settings.batch, p=chances[one])
            inputs = prepare(data.images[chosen])
            if settings.mirrors or settings.shift:
                inputs = augment(inputs, source, mirrors=settings.mirrors, shift=settings.shift)
            loss = _loss(
                network, inputs, data.labels[chosen], masks[one], teacher, settings.distilled
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            report(number + 1, settings.batches)
    settle(network, data, prepare, targets, seed=seed)


def settle(
    network: ModularNetwork,
    data: Labelled,
    prepare: Prepare,
    targets: Sequence[Target],
    *,
    seed: int,
) -> None:
    """Give the modules' normalisation layers the statistics they have in these sub-models.

    The mean over the targets; of modules that none of them holds it is of no use. Of many targets
    some stand for all.
    """
    norms = module_norms(network)
    momenta = [norm.momentum for norm in norms]
    with _BatchStatistics(network):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all passes
        for target in _some(targets):
            inputs, _ = _sample(data, prepare, target, seed)
            _answer(network, inputs, _masks(network, target))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def judge(
    network: ModularNetwork,
    data: Labelled,
    prepare: Prepare,
    targets: Sequence[Target],
    *,
    seed: int,
) -> list[float]:
    """Each target's cross-entropy in nats on images drawn for it, by their own statistics.

    So a device with statistics of its own answers. The same seed draws the same images. Of many
    targets some stand for all.
    """
    losses = []
    with _BatchStatistics(network), torch.inference_mode():
        for target in _some(targets):
            inputs, labels = _sample(data, prepare, target, seed)
            answers = _answer(network, inputs, _masks(network, target))
            known = torch.from_numpy(log_prior(labels, answers.shape[1]))
            losses.append(float(functional.cross_entropy(answers + known,
                                                         torch.from_numpy(labels))))  # fmt: skip
    return losses


class _BatchStatistics:
    """Meanwhile each batch is normalised by itself, and no running statistics move."""

    def __init__(self, network: ModularNetwork) -> None:
        self._network = network
        self._norms = list(batch_norms(network.trunk))
        self._momenta = [norm.momentum for norm in self._norms]

    def __enter__(self) -> None:
        self._network.train()
        self._network.selector.eval()
        for norm in self._norms:
            norm.momentum = 0.0

    def __exit__(self, *_: object) -> None:
        for norm, momentum in zip(self._norms, self._momenta, strict=True):
            norm.momentum = momentum
        self._network.eval()


def _loss(
    network: ModularNetwork,
    inputs: Tensor,
    labels: NDArray[np.int64],
    masks: Sequence[Tensor],
    teacher: nn.Module | None,
    distilled: float,
) -> Tensor:
    with torch.no_grad():
        wanted = None if teacher is None else teacher(inputs)
    answers = _answer(network, inputs, masks)
    known = torch.from_numpy(log_prior(labels, answers.shape[1]))
    return answer_loss(
        answers + known, torch.from_numpy(labels), None if wanted is None else wanted + known,
        distilled,
    )  # fmt: skip


def _answer(network: ModularNetwork, inputs: Tensor, masks: Sequence[Tensor]) -> Tensor:
    with torch.no_grad():
        scores, _ = network.selector(inputs)
    return network.answer(inputs, network.gates(scores, available=masks))


def _sample(
    data: Labelled, prepare: Prepare, target: Target, seed: int
) -> tuple[Tensor, NDArray[np.int64]]:
    source = np.random.default_rng(seed)
    chosen = source.choice(len(data.labels), SETTLING, p=data.chances(target.class_shares))
    return prepare(data.images[chosen]), data.labels[chosen]


def _some(targets: Sequence[Target]) -> Sequence[Target]:
    """Of many, some from all over."""
    return targets[:: -(-len(targets) // LOOKED_AT)]


def _masks(network: ModularNetwork, target: Target) -> list[Tensor]:
    masks = []
    for place, held in zip(network.places, target.modules, strict=True):
        mask = torch.zeros(place.total, dtype=torch.bool)
        mask[sorted(held)] = True
        masks.append(mask)
    return masks
