"""A fleet's sub-models learn together on the cloud's data, each on the classes of its device.

The offline stage makes modules that any sub-model can be derived from. Once a fleet has said what
it needs, only some sub-models are of use, and small ones are far better when they are trained as
they are. So in each step one device is drawn; its sub-model, inside the whole network, learns from
data of its classes. What devices share stays shared. The selector stays as it is, or
sub-models would not be the best any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.cloud.modular.objectives import answer_loss
from driftwell.cloud.modular.offline_settings import OfflineSettings
from driftwell.models.augmentation import augment
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.prior import log_prior
from driftwell.models.training import cycle


@dataclass(frozen=True, slots=True)
class Tenant:
    """One device: what it runs, and what it sees."""

    modules: tuple[frozenset[int], ...]
    """For each layer, one at least."""
    classes: frozenset[int]
    """At least one, each with a sample in the cloud's data."""


def refine(
    network: ModularNetwork,
    inputs: Tensor,
    labels: NDArray[np.int64],
    tenants: Sequence[Tenant],
    settings: OfflineSettings,
    *,
    steps: int,
    seed: int,
    teacher: nn.Module | None = None,
) -> None:
    """Train a modular network in place for its tenants; statistics have to be settled afterwards.

    Args:
        network: Holding all its modules.
        inputs: (N, C, H, W), or (N, F) without views.
        labels: (N,).
        tenants: One at least.
        settings: Rate, batch, views and teacher's share; the rest is not used.
        steps: Batches, each for one tenant.
        seed: Of tenants, batches and views.
        teacher: From inputs to logits, in evaluation mode; None: labels alone.
    """
    source = np.random.default_rng(seed)
    places = [np.flatnonzero(np.isin(labels, sorted(tenant.classes))) for tenant in tenants]
    masks = [_masks(network, tenant) for tenant in tenants]
    learning = [one for one in network.trunk.parameters() if one.requires_grad]
    optimiser = torch.optim.Adam(learning, settings.learning_rate)
    network.train()
    network.selector.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * cycle((number + 0.5) / steps)
            one = int(source.integers(len(tenants)))
            chosen = source.choice(places[one], settings.batch)
            images = inputs[torch.from_numpy(chosen)]
            if settings.mirrors or settings.shift:
                images = augment(images, source, mirrors=settings.mirrors, shift=settings.shift)
            with torch.no_grad():
                scores, _ = network.selector(images)
                wanted = None if teacher is None else teacher(images)
            answers = network.answer(images, network.gates(scores, available=masks[one]))
            known = torch.from_numpy(log_prior(labels[chosen], answers.shape[1]))
            loss = answer_loss(
                answers + known,
                torch.from_numpy(labels[chosen]),
                None if wanted is None else wanted + known,
                settings.distilled,
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    network.eval()


def _masks(network: ModularNetwork, tenant: Tenant) -> list[Tensor]:
    masks = []
    for place, held in zip(network.places, tenant.modules, strict=True):
        mask = torch.zeros(place.total, dtype=torch.bool)
        mask[sorted(held)] = True
        masks.append(mask)
    return masks
