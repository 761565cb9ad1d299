"""CEMA's losses against numpy, computed another way."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from driftwell.cloud import losses

TEACHER = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.5, 3.0, 0.25]])
STUDENT = np.array([[0.0, 1.0, 0.0], [1.0, -1.0, 2.0], [0.0, 4.0, 0.0]])
MARGIN = 0.4 * math.log(3)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponent = np.exp(logits)
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))


def entropy(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    p = softmax(logits)
    return np.asarray(-(p * np.log(p)).sum(axis=1))


def kl(temperature: float) -> NDArray[np.float64]:
    p, q = softmax(TEACHER / temperature), softmax(STUDENT / temperature)
    return np.asarray((p * np.log(p / q)).sum(axis=1))


def tensor(logits: NDArray[np.float64]) -> torch.Tensor:
    return torch.tensor(logits, requires_grad=True)


def test_entropy_and_its_weight() -> None:
    """H of uniform logits is ln 3, its weight exp(E0 - ln 3), and the weight has no gradient."""
    found = losses.entropy(tensor(TEACHER))
    weight = losses.certainty_weight(tensor(TEACHER), MARGIN)

    np.testing.assert_allclose(found.detach(), entropy(TEACHER))
    assert found[1].item() == pytest.approx(math.log(3))
    assert weight[1].item() == pytest.approx(math.exp(-0.6 * math.log(3)))
    assert not weight.requires_grad


def test_the_foundations_loss() -> None:
    """The mean of exp(E0 - H) * H, with the gradient of H alone."""
    logits = tensor(TEACHER)
    loss = losses.weighted_entropy(logits, MARGIN)
    loss.backward()

    h = entropy(TEACHER)
    assert loss.item() == pytest.approx(float((np.exp(MARGIN - h) * h).mean()))
    p = softmax(TEACHER)
    slope = -p * (np.log(p) + h[:, None])
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad, np.exp(MARGIN - h)[:, None] * slope / 3, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_divergence(temperature: float) -> None:
    """T^2 * KL(teacher || student) of the softened probabilities; 0 between equals."""
    found = losses.divergence(tensor(TEACHER), tensor(STUDENT), temperature)
    same = losses.divergence(tensor(TEACHER), tensor(TEACHER), temperature)

    np.testing.assert_allclose(found.detach(), temperature**2 * kl(temperature))
    np.testing.assert_allclose(same.detach(), 0, atol=1e-15)


def test_the_pseudo_label_loss() -> None:
    """-ln of what the student gives to the teacher's class."""
    found = losses.pseudo_label_loss(tensor(TEACHER), tensor(STUDENT))

    q = softmax(STUDENT)
    np.testing.assert_allclose(found.detach(), -np.log([q[0, 0], q[1, 0], q[2, 1]]))


def test_the_edges_loss_is_the_weighted_sum() -> None:
    """The teacher's weight goes with what it says, the student's with its own entropy."""
    found = losses.distillation_loss(
        torch.tensor(TEACHER), tensor(STUDENT), margin_nats=MARGIN, entropy_factor=3,
        divergence_factor=5, pseudo_label_factor=7, temperature=2,
    )  # fmt: skip

    q = softmax(STUDENT)
    cross = -np.log([q[0, 0], q[1, 0], q[2, 1]])
    own = entropy(STUDENT)
    taught = np.exp(MARGIN - entropy(TEACHER)) * (5 * 4 * kl(2) + 7 * cross)
    assert found.item() == pytest.approx(float((taught + 3 * np.exp(MARGIN - own) * own).mean()))
