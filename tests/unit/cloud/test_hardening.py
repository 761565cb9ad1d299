"""Hardening on tiny models, and the distortions it uses."""

import numpy as np
import pytest
import torch
from tests import tiny

from driftwell.cloud.hardening import HardeningSettings, harden
from driftwell.cloud.mixing import mix
from driftwell.models.bundle import Bundle

LABELS = np.arange(256) % len(tiny.CLASSES)


def test_the_edge_model_learns_the_teachers_answers(foundation: Bundle, edge: Bundle) -> None:
    """The loss falls, every step is told, weights and statistics come back under their names."""
    losses: list[float] = []
    counts: list[tuple[int, int]] = []

    def progress(step: int, total: int, loss: float) -> None:
        counts.append((step, total))
        losses.append(loss)

    weights = harden(
        foundation, edge, tiny.make_images(256), LABELS,
        HardeningSettings(epochs=20, batch=32, learning_rate=0.01), np.random.default_rng(0),
        progress,
    )  # fmt: skip

    assert counts == [(step, 160) for step in range(1, 161)]
    assert np.mean(losses[-20:]) < np.mean(losses[:20])
    assert weights.keys() >= edge.source.keys()
    assert not np.array_equal(weights["bn1.running_mean"], edge.source["bn1.running_mean"])
    assert all(np.isfinite(array).all() for array in weights.values())


def test_the_same_seed_gives_the_same_weights(foundation: Bundle, edge: Bundle) -> None:
    """And another seed others."""
    settings = HardeningSettings(epochs=1, batch=32)

    def weights(seed: int) -> bytes:
        made = harden(
            foundation, edge, tiny.make_images(64), LABELS[:64], settings,
            np.random.default_rng(seed),
        )  # fmt: skip
        return made["conv1.weight"].tobytes()

    assert weights(0) == weights(0) != weights(1)


def test_too_few_anchors_are_refused(foundation: Bundle, edge: Bundle) -> None:
    """Less than one batch."""
    with pytest.raises(ValueError, match="10 anchors"):
        harden(
            foundation, edge, tiny.make_images(10), LABELS[:10], HardeningSettings(),
            np.random.default_rng(0),
        )  # fmt: skip


def test_mixed_images_are_images() -> None:
    """Shape, range and most of the picture stay; something has changed; the seed decides."""
    images = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    mixed = mix(images, np.random.default_rng(0))

    assert mixed.shape == images.shape
    assert 0 <= float(mixed.min()) <= float(mixed.max()) <= 1.0 + 1e-6
    assert float((mixed - images).abs().mean()) > 0.02
    assert torch.equal(mixed, mix(images, np.random.default_rng(0)))
