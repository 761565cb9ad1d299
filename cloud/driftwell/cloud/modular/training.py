"""The offline stage: modules and selector learn together, then modules are given sub-tasks.

1. Joint: cross-entropy through noisy top-k gates, and a loss that keeps all modules in use
   (Shazeer et al., ICLR 2017, section 4). Ours: in each step some modules are away, so that any
   sub-model can answer.
2. Ability-enhancing: each layer's mean gates by sub-task make the assignment (`ability`), and the
   gates are drawn towards it (Nebula, ICPP 2024, section 4.3).

A sub-task is a class: devices see some of the classes, and need their modules.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from driftwell.cloud.modular.ability import assign_modules, gate_labels, tasks_per_module
from driftwell.models.modular.gating import expected_load, noisy, squared_variation
from driftwell.models.modular.network import ModularNetwork

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class OfflineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the offline stage learns. The authors give none of these values."""

    joint_epochs: Count = 10
    ability_epochs: Count = 10
    """0: no ability-enhancing training."""
    learning_rate: Positive = 1e-3
    """Adam's."""
    batch: Annotated[int, msgspec.Meta(ge=2)] = 64
    balance: NotNegative = 0.01
    """Weight of the balance losses."""
    guidance: NotNegative = 1.0
    """Weight of KL(gate label || gates) in the second stage."""
    away: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5
    """Largest share of a layer's modules that is away in a step."""
    modules_per_task: Annotated[int, msgspec.Meta(ge=1)] = 3


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the data, for a progress bar or a log."""

    number: int
    of: int
    stage: str
    loss: float
    """Mean cross-entropy, nats."""


def train_offline(
    network: ModularNetwork,
    inputs: Tensor,
    labels: NDArray[np.int64],
    settings: OfflineSettings,
    *,
    seed: int,
    report: Callable[[Epoch], None] = lambda _: None,
) -> list[NDArray[np.float64]]:
    """Train a modular network in place, both stages; the same seed gives the same bits.

    Args:
        network: Holding all its modules.
        inputs: (N, ...), as the network takes them.
        labels: (N,), classes 0 to C - 1, each at least once.
        settings: How.
        seed: Of batches, noise and absences.
        report: Called after each epoch.

    Returns:
        For each layer the gate labels (C, modules) of the second stage; none if it was left out.
    """
    training = begin_training(network, settings, seed=seed)
    while training.done < epochs_of(settings):
        report(train_epoch(training, inputs, labels, settings))
    return training.labels


@dataclass(slots=True)
class Training:
    """The offline stage between two epochs: all that the next one depends on but the data."""

    network: ModularNetwork
    optimiser: torch.optim.Adam
    generator: torch.Generator
    """Draws batches, noise and absences."""
    ambient: Tensor
    """State of the generator that the network's own layers draw from, as Dropout does."""
    done: int = 0
    """Epochs."""
    labels: list[NDArray[np.float64]] = field(default_factory=list)
    """For each layer the gate labels (C, modules) of the second stage; none in the first."""


def epochs_of(settings: OfflineSettings) -> int:
    """How many there are in both stages."""
    return settings.joint_epochs + settings.ability_epochs


def begin_training(network: ModularNetwork, settings: OfflineSettings, *, seed: int) -> Training:
    """Before the first epoch; the network will learn in place."""
    return Training(
        network,
        torch.optim.Adam(network.parameters(), settings.learning_rate),
        torch.Generator().manual_seed(seed),
        torch.Generator().manual_seed(seed).get_state(),
    )


def train_epoch(
    training: Training,
    inputs: Tensor,
    labels: NDArray[np.int64],
    settings: OfflineSettings,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Epoch:
    """Go one epoch further, in place; the arguments are those of `train_offline`.

    Args:
        training: Not at its end.
        inputs: (N, ...).
        labels: (N,).
        settings: The same in every epoch.
        progress: Called after each batch with samples seen, and N.
    """
    is_joint = training.done < settings.joint_epochs
    if not is_joint and not training.labels:
        loads = mean_gates(training.network, inputs, labels)
        training.labels = [_labels_of(load, settings) for load in loads]
    guides = [torch.from_numpy(label).float() for label in training.labels]
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(training.ambient)
        loss = _epoch(
            training.network, inputs, torch.from_numpy(labels), settings, training.optimiser,
            training.generator, guides=None if is_joint else guides, progress=progress,
        )  # fmt: skip
        training.ambient = torch.get_rng_state()
    training.done += 1
    return Epoch(training.done, epochs_of(settings), "joint" if is_joint else "ability", loss)


def mean_gates(
    network: ModularNetwork, inputs: Tensor, labels: NDArray[np.int64]
) -> list[NDArray[np.float64]]:
    """For each layer the mean gate of each module over each class, (C, modules): the load."""
    network.eval()
    with torch.inference_mode():
        return [
            np.stack(rows)
            for rows in zip(
                *(
                    [layer.double().numpy() for layer in network.importance(inputs[labels == one])]
                    for one in range(int(labels.max()) + 1)
                ),
                strict=True,
            )
        ]


def _labels_of(load: NDArray[np.float64], settings: OfflineSettings) -> NDArray[np.float64]:
    tasks, modules = load.shape
    each = min(settings.modules_per_task, modules)
    limit = tasks_per_module(tasks, modules, each)
    return gate_labels(load, assign_modules(load, modules_per_task=each, limit=limit))


def _epoch(
    network: ModularNetwork,
    inputs: Tensor,
    targets: Tensor,
    settings: OfflineSettings,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    *,
    guides: Sequence[Tensor] | None,
    progress: Callable[[int, int], None],
) -> float:
    network.train()
    losses: list[float] = []
    seen = 0
    for chosen in _batches(len(inputs), settings.batch, generator):
        images, labels = inputs[chosen], targets[chosen]
        scores, spreads = network.selector(images)
        tried = [noisy(*both, generator) for both in zip(scores, spreads, strict=True)]
        present = [_present(layer.shape[1], settings.away, generator) for layer in scores]
        gates = network.gates(tried if guides is None else scores, available=present)
        answer_loss = functional.cross_entropy(network.answer(images, gates), labels)
        if guides is None:
            extra = settings.balance * _imbalance(scores, tried, spreads, gates, network.active)
        else:
            extra = settings.guidance * _distance(scores, [guide[labels] for guide in guides])
        optimiser.zero_grad(set_to_none=True)
        (answer_loss + extra).backward()
        optimiser.step()
        losses.append(float(answer_loss.detach()))
        seen += len(chosen)
        progress(seen, len(inputs))
    network.eval()
    return float(np.mean(losses))


def _imbalance(
    scores: Sequence[Tensor],
    tried: Sequence[Tensor],
    spreads: Sequence[Tensor],
    gates: Sequence[Tensor],
    active: int,
) -> Tensor:
    """Importance and load loss, summed over the layers."""
    losses = [
        squared_variation(opened.sum(dim=0))
        + squared_variation(expected_load(clean, with_noise, spread, active=active))
        for clean, with_noise, spread, opened in zip(scores, tried, spreads, gates, strict=True)
    ]
    return torch.stack(losses).sum()


def _distance(scores: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """KL(label || softmax of the scores), nats, mean over the batch, summed over the layers."""
    losses = [
        functional.kl_div(torch.log_softmax(layer, dim=1), label, reduction="batchmean")
        for layer, label in zip(scores, wanted, strict=True)
    ]
    return torch.stack(losses).sum()


def _present(modules: int, away: float, generator: torch.Generator) -> Tensor:
    """Who is there in this step, bool (modules,): all but an even share of up to `away`."""
    absent = int(torch.rand((), generator=generator).item() * away * modules)
    present = torch.ones(modules, dtype=torch.bool)
    present[torch.randperm(modules, generator=generator)[:absent]] = False
    return present


def _batches(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Numbers of all samples in a drawn order; a last batch of one is left out."""
    order = torch.randperm(count, generator=generator)
    for first in range(0, count, batch):
        chosen = order[first : first + batch]
        if len(chosen) > 1:  # BatchNorm needs two
            yield chosen
