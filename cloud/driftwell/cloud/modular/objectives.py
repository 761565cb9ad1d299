"""What the offline stage asks for: right answers, all modules in use, gates as labelled."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from driftwell.models.modular.gating import expected_load, squared_variation


def answer_loss(answers: Tensor, labels: Tensor, wanted: Tensor | None, distilled: float) -> Tensor:
    """Cross-entropy of answers (N, C) with labels (N,) and a teacher's answers (N, C); nats.

    Args:
        answers: Logits.
        labels: Classes.
        wanted: The teacher's logits; None: labels alone.
        distilled: Share of the loss that is the teacher's.
    """
    by_label = functional.cross_entropy(answers, labels)
    if wanted is None:
        return by_label
    by_teacher = functional.cross_entropy(answers, torch.softmax(wanted, dim=1))
    return torch.lerp(by_label, by_teacher, distilled)


def imbalance(
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


def gate_distance(scores: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """KL(label || softmax of the scores), nats, mean over the batch, summed over the layers."""
    losses = [
        functional.kl_div(torch.log_softmax(layer, dim=1), label, reduction="batchmean")
        for layer, label in zip(scores, wanted, strict=True)
    ]
    return torch.stack(losses).sum()
