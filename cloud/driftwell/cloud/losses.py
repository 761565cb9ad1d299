"""CEMA's losses: one function a formula. Logits are (N, C), results (N,) unless said otherwise.

Equation numbers are those of the CEMA paper (ICLR 2024); weights and constants are those
of the official code.
"""

import torch
from torch import Tensor
from torch.nn import functional


def entropy(logits: Tensor) -> Tensor:
    """H(p) = -sum_c p_c ln p_c of p = softmax(logits), nats."""
    log_p = functional.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def certainty_weight(logits: Tensor, margin_nats: float) -> Tensor:
    """exp(E0 - H), without gradient: certain samples count for more (Eq. 5)."""
    return torch.exp(margin_nats - entropy(logits)).detach()


def weighted_entropy(logits: Tensor, margin_nats: float) -> Tensor:
    """The foundation model's loss, a scalar: mean of exp(E0 - H) * H (Eq. 5)."""
    return (certainty_weight(logits, margin_nats) * entropy(logits)).mean()


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student), both softened by T (Eq. 6, first term)."""
    log_t = functional.log_softmax(teacher / temperature, dim=1)
    log_s = functional.log_softmax(student / temperature, dim=1)
    return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(dim=1)


def pseudo_label_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Cross entropy of the student with the teacher's class (Eq. 6, second term)."""
    return functional.cross_entropy(student, teacher.argmax(dim=1), reduction="none")


def distillation_loss(
    teacher: Tensor,
    student: Tensor,
    *,
    margin_nats: float,
    entropy_factor: float,
    divergence_factor: float,
    pseudo_label_factor: float,
    temperature: float,
) -> Tensor:
    """The edge model's loss, a scalar (Eq. 6).

    The teacher's certainty weighs what the teacher says, the student's its own entropy.
    """
    teacher_weight = certainty_weight(teacher, margin_nats)
    taught = divergence_factor * divergence(teacher, student, temperature)
    taught = taught + pseudo_label_factor * pseudo_label_loss(teacher, student)
    own = entropy_factor * certainty_weight(student, margin_nats) * entropy(student)
    return (teacher_weight * taught + own).mean()
