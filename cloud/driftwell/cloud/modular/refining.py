"""A fleet's sub-models learn together on the cloud's data, each on the classes of its device.

The offline stage makes modules that any sub-model can be derived from. Once a fleet has said what
it needs, only some sub-models are of use, and small ones are far better when they are trained as
they are. So in each step one of them is drawn; it learns, inside the whole network, from
images drawn by its device's class shares. What devices share stays shared. Only modules learn, and
the head if it may: trunk and selector are those that every device came with. Batches are normalised
by themselves, as by a device with statistics of its own.
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
from driftwell.models.modular.learning import (
    batch_statistics,
    head_of,
    module_norms,
    module_parameters,
)
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module, write_module
from driftwell.models.modular.prior import log_prior
from driftwell.models.training import cycle

Prepare = Callable[[Pixels], Tensor]
"""From pixels to a network's input."""
Seed = Sequence[int]
SAMPLE: Final = 512
"""Images of a target from which statistics are taken, and by which it is judged."""
LOOKED_AT: Final = 32
"""Targets, at most, from which statistics are taken, and which are judged."""
MEAN, VARIANCE = "norm.running_mean", "norm.running_var"


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

    def draw(
        self, shares: NDArray[np.float64], count: int, source: np.random.Generator
    ) -> tuple[Pixels, NDArray[np.int64]]:
        """So many images and labels by class shares (C,), one perhaps more than once."""
        chosen = source.choice(len(self.labels), count, p=self.chances(shares))
        return self.images[chosen], self.labels[chosen]


def refine(
    network: ModularNetwork,
    data: Labelled,
    prepare: Prepare,
    targets: Sequence[Target],
    settings: RefiningSettings,
    *,
    seed: Seed,
    teacher: nn.Module | None = None,
    distilled: float = 0.0,
    with_head: bool = False,
    check: Callable[[], None] = lambda: None,
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
        distilled: Share of the loss that asks for its answers, 0 to 1.
        with_head: Whether the head learns, too: where devices have none yet.
        check: Called before each batch; what it raises ends the training, half done.

    Raises:
        ArrayError: if what was learned is not finite.
        BundleError: if the head is to learn, and there is none.
    """
    source = np.random.default_rng(seed)
    learning = [*module_parameters(network), *(head_of(network).parameters() if with_head else ())]
    optimiser = torch.optim.Adam(learning, settings.learning_rate)
    with batch_statistics(network):
        for number in range(settings.batches):
            check()
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * cycle((number + 0.5) / settings.batches)
            target = targets[int(source.integers(len(targets)))]
            images, labels = data.draw(target.class_shares, settings.batch, source)
            inputs = prepare(images)
            if settings.mirrors or settings.shift:
                inputs = augment(inputs, source, mirrors=settings.mirrors, shift=settings.shift)
            with torch.no_grad():
                wanted = None if teacher is None else teacher(inputs)
            answers = _answer(network, inputs, target)
            known = torch.from_numpy(log_prior(labels, answers.shape[1]))
            loss = answer_loss(
                answers + known,
                torch.from_numpy(labels),
                None if wanted is None else wanted + known,
                distilled,
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    settle(network, data, prepare, targets, seed=seed, check=check)


def settle(
    network: ModularNetwork,
    data: Labelled,
    prepare: Prepare,
    targets: Sequence[Target],
    *,
    seed: Seed,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Give modules the normalisation statistics that they have in these sub-models.

    Each the mean over the targets that hold it; modules that none holds keep theirs. Of many
    targets some stand for all. Arguments are those of `refine`.
    """
    norms = module_norms(network)
    addresses = [(layer, one) for layer, held in enumerate(network.held) for one in held]
    before = {address: read_module(network, *address) for address in addresses}
    found: dict[tuple[int, int], list[dict[str, NDArray[np.float32]]]] = {}
    for target in _some(targets):
        check()
        images, _ = data.draw(target.class_shares, SAMPLE, np.random.default_rng(seed))
        with batch_statistics(network), torch.no_grad():
            for norm in norms:
                norm.momentum = 1.0
            _answer(network, prepare(images), target)
        for layer, held in enumerate(target.modules):
            for module in held:
                found.setdefault((layer, module), []).append(read_module(network, layer, module))
    for address, arrays in before.items():
        for name in (MEAN, VARIANCE):
            if name in arrays and address in found:
                arrays[name] = np.mean([one[name] for one in found[address]], axis=0)
        write_module(network, *address, arrays)


def judge(
    network: ModularNetwork,
    data: Labelled,
    prepare: Prepare,
    targets: Sequence[Target],
    *,
    seed: Seed,
    by_batch: bool,
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Cross-entropy in nats of each target (T,), or of some that stand for many.

    On images drawn for it, the same ones with the same seed.

    Args:
        network: In evaluation mode, which it is in afterwards.
        data: One image at least.
        prepare: From pixels to the network's input.
        targets: One at least.
        seed: Of the images.
        by_batch: Whether they are normalised by themselves, as on a device with own statistics;
            False: by the running statistics, as on one without.
        check: As of `refine`.
    """
    losses = []
    for target in _some(targets):
        check()
        images, labels = data.draw(target.class_shares, SAMPLE, np.random.default_rng(seed))
        with batch_statistics(network, wanted=by_batch), torch.no_grad():
            answers = _answer(network, prepare(images), target)
        known = torch.from_numpy(log_prior(labels, answers.shape[1]))
        losses.append(float(functional.cross_entropy(answers + known, torch.from_numpy(labels))))
    return np.array(losses)


def _answer(network: ModularNetwork, inputs: Tensor, target: Target) -> Tensor:
    with torch.no_grad():
        scores, _ = network.selector(inputs)
    masks = []
    for place, held in zip(network.places, target.modules, strict=True):
        mask = torch.zeros(place.total, dtype=torch.bool)
        mask[sorted(held)] = True
        masks.append(mask)
    return network.answer(inputs, network.gates(scores, available=masks))


def _some(targets: Sequence[Target]) -> Sequence[Target]:
    """Of many, some from all over."""
    return targets[:: -(-len(targets) // LOOKED_AT)]
