"""What a network costs is measured, not guessed."""

import pytest
import torch
from torch import Tensor, nn

from driftwell.models.footprint import (
    Yardstick,
    measure_footprint,
    measure_latency_ms,
    measure_latency_ratio,
    measure_peak_bytes,
    peak_of,
)
from driftwell.tools.elastic.networks import digits_mlp

SHAPE = (8, 8, 1)


class Widening(nn.Module):
    """Has no parameters; makes 1000 floats an image, and no more while they live."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> (N,)."""
        return torch.ones(len(images), 1000)[:, 0]


def test_the_peak_is_the_largest_running_sum() -> None:
    """Released bytes make room for others."""
    assert peak_of([100, 50, -100, 60, -110]) == 150
    assert peak_of([]) == 0


def test_a_tensor_of_known_size_is_counted() -> None:
    """1000 floats of 4 bytes for one image, and nothing else."""
    assert measure_peak_bytes(Widening(), SHAPE) == 4_000


def test_parameters_and_buffers_are_counted() -> None:
    """One layer: weights, and its output of 100 floats."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 100))

    assert measure_peak_bytes(module, SHAPE) == (64 * 100 + 100) * 4 + 100 * 4


def test_what_is_released_is_not_counted_twice() -> None:
    """Four layers in a row need two activations at a time, not five."""
    layers = [nn.Linear(64, 64, bias=False) for _ in range(4)]

    peak = measure_peak_bytes(nn.Sequential(nn.Flatten(), *layers), SHAPE)

    assert peak == 4 * 64 * 64 * 4 + 2 * 64 * 4


class Slow(nn.Module):
    """Takes a few milliseconds of the processor, times a factor."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 8, 8) -> the same."""
        for _ in range(self.times):
            torch.ones(200, 200) @ torch.ones(200, 200)
        return images


def test_time_by_a_yardstick_is_a_ratio() -> None:
    """Whatever the machine does: three times the work takes three times the time that is known."""
    module, known = Slow(30), Yardstick(Slow(10), 7.0)

    assert measure_latency_ratio(module, known.module, SHAPE) == pytest.approx(3, rel=0.3)
    measured = measure_footprint(module, SHAPE, yardstick=known)
    assert measured.latency_ms == pytest.approx(21, rel=0.3)


def test_a_narrower_network_takes_less() -> None:
    """Memory and parameters; its time depends on the machine."""
    full, half = (measure_footprint(digits_mlp(width), SHAPE) for width in (1.0, 0.5))

    assert half.parameters < full.parameters
    assert half.peak_bytes < full.peak_bytes
    assert full.latency_ms > 0


def test_the_number_of_threads_stays() -> None:
    """It is measured on one thread; afterwards there are as many as before."""
    before = torch.get_num_threads()

    measure_latency_ms(digits_mlp(0.5), SHAPE)

    assert torch.get_num_threads() == before
