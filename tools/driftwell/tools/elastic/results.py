"""Pure. What the elastic bench measured, as JSON."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec

LATENCY_TOLERANCE: Final = 1.1
"""A latency counts as over its limit from here on: measured twice, it differs by some percent."""


class DeviceCost(msgspec.Struct, frozen=True, kw_only=True):
    """What the network of one device costs after the last step, and what it may cost."""

    parameters: int
    peak_bytes: int
    """Measured: parameters, buffers and activations of one image."""
    latency_ms: float
    """Measured, of a batch of 16."""
    memory_budget_bytes: int
    latency_budget_ms: float
    download_budget_bytes: int
    """In one step."""

    @property
    def is_over_memory(self) -> bool:
        """Whether it takes more memory than the device has."""
        return self.peak_bytes > self.memory_budget_bytes

    @property
    def is_over_latency(self) -> bool:
        """Whether it is slower than it may be by more than 10 %."""
        return self.latency_ms > LATENCY_TOLERANCE * self.latency_budget_ms


class ElasticResult(msgspec.Struct, frozen=True, kw_only=True):
    """One method with one skew and seed; accuracies in percent, each the mean over devices."""

    problem: str
    method: str
    skew: int
    """Classes of a device."""
    seed: int
    devices: int
    steps: int
    accuracy_one_step: float
    """After the first adaptation step."""
    accuracy_run: float
    """Mean over all steps."""
    accuracy_by_step: tuple[float, ...]
    bytes_up: int
    bytes_down: int
    bytes_by_step: tuple[int, ...]
    """Up and down together."""
    budget_violations: int
    """Devices over their limit of memory or latency."""
    memory_violations: int
    latency_violations: int
    costs: tuple[DeviceCost, ...]
    """By device."""
    key: str = ""
    """16 digits that name everything the result depends on."""
    software: str = ""
    """Release and code that ran; not part of the key."""
    spent_s: float = 0.0
    """Real seconds of the run, what is prepared in the cloud included."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All results of one run of the bench."""

    results: tuple[ElasticResult, ...]


def as_json(results: Sequence[ElasticResult]) -> str:
    """One JSON object, indented."""
    encoded = msgspec.json.encode(Report(results=tuple(results)))
    return msgspec.json.format(encoded, indent=2).decode()


def bytes_until(result: ElasticResult, accuracy: float) -> int | None:
    """Bytes up and down until the mean over devices first reached an accuracy; None: never."""
    spent = accumulate(result.bytes_by_step)
    for reached, total in zip(result.accuracy_by_step, spent, strict=True):
        if reached >= accuracy:
            return total
    return None
