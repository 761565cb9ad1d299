"""What a network costs a device when it answers: parameters, peak of memory, time.

Memory is that of one image, time that of a batch of 16, on one thread. With so small networks
the activations of a batch would take more than all parameters, and a single image no longer
than the calls.

The same network takes half as long again in a busy hour. So where networks are compared with each
other, their passes are timed in turn, and only the ratio counts (`Yardstick`).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Final

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

BATCH: Final = 16
WARM_UP: Final = 3
"""Passes that are not measured: the first ones fill caches."""
PASSES: Final = 25
MS: Final = 1e-6
"""Milliseconds of a nanosecond."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one network costs."""

    parameters: int
    peak_bytes: int
    """Parameters, buffers, and the most that activations took at one time."""
    latency_ms: float
    """Median of a forward pass."""


@dataclass(frozen=True, slots=True)
class Yardstick:
    """A network whose time is known, to time others by."""

    module: nn.Module
    latency_ms: float


def measure_footprint(
    module: nn.Module, shape: tuple[int, int, int], *, yardstick: Yardstick | None = None
) -> Footprint:
    """Measure a module in evaluation mode, which it is in afterwards.

    Args:
        module: From (N, C, H, W) to logits.
        shape: (H, W, C) of an image.
        yardstick: Its time is what `module` takes relative to it at the moment, times the
            time that is known of it; None: as it is at the moment.
    """
    return Footprint(
        parameters=sum(one.numel() for one in module.parameters()),
        peak_bytes=measure_peak_bytes(module, shape),
        latency_ms=(
            measure_latency_ms(module, shape)
            if yardstick is None
            else yardstick.latency_ms * measure_latency_ratio(module, yardstick.module, shape)
        ),
    )


def measure_peak_bytes(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Bytes of parameters and buffers, and the peak of what one forward pass allocates.

    torch's profiler notes every allocation (positive) and release (negative) of the CPU
    allocator in the order in which they happen; the peak is the largest running sum. The input
    was there before and does not count. What a library takes past the allocator is not seen.
    """
    inputs = example(shape, images=1)
    module.eval()
    with torch.inference_mode():
        module(inputs)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            module(inputs)
    results = profiled.profiler.kineto_results if profiled.profiler else None
    events = results.events() if results else []
    memory = sorted(
        ((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"),
        key=lambda one: one[0],  # events of one moment stay in their order
    )
    held = sum(
        one.numel() * one.element_size() for one in [*module.parameters(), *module.buffers()]
    )
    return held + peak_of(change for _, change in memory)


def peak_of(changes: Iterable[int]) -> int:
    """The largest running sum of bytes allocated (positive) and released (negative), at least 0."""
    return max(accumulate(changes, initial=0))


def measure_latency_ms(module: nn.Module, shape: tuple[int, int, int]) -> float:
    """Median of a forward pass, in milliseconds of one processor.

    Of the calling thread's own time, in which all is done: what other programs take meanwhile
    does not count.
    """
    return median(one for (one,) in _rounds([module], shape))


def measure_latency_ratio(
    module: nn.Module, other: nn.Module, shape: tuple[int, int, int]
) -> float:
    """How many times as long as another a module takes: the median over passes in turn."""
    # A coarse clock may say 0.
    return median(one / max(known, MS) for one, known in _rounds([module, other], shape))


def _rounds(
    modules: Sequence[nn.Module], shape: tuple[int, int, int]
) -> Iterator[tuple[float, ...]]:
    """Milliseconds of each module, round after round."""
    inputs = example(shape, images=BATCH)
    for module in modules:
        module.eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for number in range(WARM_UP + PASSES):
                times = tuple(_pass_ms(module, inputs) for module in modules)
                if number >= WARM_UP:
                    yield times
    finally:
        torch.set_num_threads(threads)


def _pass_ms(module: nn.Module, inputs: Tensor) -> float:
    started_ns = time.thread_time_ns()
    module(inputs)
    return (time.thread_time_ns() - started_ns) * MS


def example(shape: tuple[int, int, int], *, images: int) -> Tensor:
    """Images (H, W, C) as a network gets them: zeros (images, C, H, W), channels last."""
    return torch.zeros(images, *shape).permute(0, 3, 1, 2)
