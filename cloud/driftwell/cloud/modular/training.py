"""The offline stage: modules and selector learn together, then modules are given sub-tasks.

1. Joint: cross-entropy through noisy top-k gates, and a loss that keeps all modules in use
   (Shazeer et al., ICLR 2017, section 4). Ours: each step is answered by a sub-model that is drawn
   (`drawing`), so that any can answer; if wanted by all modules, too, and after a teacher.
2. Ability-enhancing: each layer's mean gates by sub-task make the assignment (`ability`), and the
   gates are drawn towards it (Nebula, ICPP 2024, section 4.3).

A sub-task is a class: devices see some of the classes, and need their modules.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.cloud.modular.ability import assign_modules, gate_labels, tasks_per_module
from driftwell.cloud.modular.drawing import draw_sub_model, module_sizes
from driftwell.cloud.modular.objectives import answer_loss, gate_distance, imbalance
from driftwell.cloud.modular.offline_settings import OfflineSettings
from driftwell.models.augmentation import augment
from driftwell.models.modular.gating import noisy
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.training import cycle


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the data, for a progress bar or a log."""

    number: int
    of: int
    stage: str
    loss: float
    """Mean of `answer_loss`, nats."""


def train_offline(
    network: ModularNetwork,
    inputs: Tensor,
    labels: NDArray[np.int64],
    settings: OfflineSettings,
    *,
    seed: int,
    report: Callable[[Epoch], None] = lambda _: None,
    teacher: nn.Module | None = None,
) -> list[NDArray[np.float64]]:
    """Train a modular network in place, both stages; the same seed gives the same bits.

    Args:
        network: Holding all its modules.
        inputs: (N, ...), as the network takes them.
        labels: (N,), classes 0 to C - 1, each at least once.
        settings: How.
        seed: Of batches, noise and absences.
        report: Called after each epoch.
        teacher: From inputs to logits (N, C), in evaluation mode: best the network that was cut.
            None: labels alone.

    Returns:
        For each layer the gate labels (C, modules) of the second stage; none if it was left out.
    """
    training = begin_training(network, settings, seed=seed)
    while training.done < epochs_of(settings):
        report(train_epoch(training, inputs, labels, settings, teacher=teacher))
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
    teacher: nn.Module | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Epoch:
    """Go one epoch further, in place; the arguments are those of `train_offline`.

    Args:
        training: Not at its end.
        inputs: (N, ...).
        labels: (N,).
        settings: The same in every epoch.
        teacher: The same in every epoch.
        progress: Called after each batch with samples seen, and N.
    """
    is_joint = training.done < settings.joint_epochs
    if not is_joint and not training.labels:
        loads = mean_gates(training.network, inputs, labels)
        training.labels = [_labels_of(load, settings) for load in loads]
    guides = [torch.from_numpy(label).float() for label in training.labels]
    of = epochs_of(settings)
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(training.ambient)
        loss = _epoch(
            training.network, inputs, torch.from_numpy(labels), settings, training.optimiser,
            training.generator, span=(training.done / of, (training.done + 1) / of),
            teacher=teacher, guides=None if is_joint else guides, progress=progress,
        )  # fmt: skip
        training.ambient = torch.get_rng_state()
    training.done += 1
    return Epoch(training.done, of, "joint" if is_joint else "ability", loss)


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
    span: tuple[float, float],
    teacher: nn.Module | None,
    guides: Sequence[Tensor] | None,
    progress: Callable[[int, int], None],
) -> float:
    """One epoch; it is this span of the whole training."""
    network.train()
    losses: list[float] = []
    seen = 0
    sizes = module_sizes(network)
    # From the one generator, whose state is all that a run to be resumed has to keep.
    views = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    parts = list(_batches(len(inputs), settings.batch, generator))
    for done, chosen in enumerate(parts):
        if settings.one_cycle:
            share = span[0] + (span[1] - span[0]) * (done + 0.5) / len(parts)
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * cycle(share)
        images, labels = inputs[chosen], targets[chosen]
        if settings.mirrors or settings.shift:
            images = augment(images, views, mirrors=settings.mirrors, shift=settings.shift)
        scores, spreads = network.selector(images)
        tried = [
            noisy(layer, spread + settings.quiet, generator)
            for layer, spread in zip(scores, spreads, strict=True)
        ]
        present = draw_sub_model(scores, sizes, settings.away, generator)
        opened = tried if guides is None else scores
        gates = network.gates(opened, available=present)
        told = [network.answer(images, gates)]
        if settings.sandwich:
            told.append(network.answer(images, network.gates(opened)))
        with torch.inference_mode():
            wanted = None if teacher is None else teacher(images)
        lost = torch.stack(
            [answer_loss(one, labels, wanted, settings.distilled) for one in told]
        ).mean()
        if guides is None:
            extra = settings.balance * imbalance(scores, tried, spreads, gates, network.active)
        else:
            extra = settings.guidance * gate_distance(scores, [guide[labels] for guide in guides])
        optimiser.zero_grad(set_to_none=True)
        (lost + extra).backward()
        optimiser.step()
        losses.append(float(lost.detach()))
        seen += len(chosen)
        progress(seen, len(inputs))
    network.eval()
    return float(np.mean(losses))


def _batches(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Numbers of all samples in a drawn order; a last batch of one is left out."""
    order = torch.randperm(count, generator=generator)
    for first in range(0, count, batch):
        chosen = order[first : first + batch]
        if len(chosen) > 1:  # BatchNorm needs two
            yield chosen
