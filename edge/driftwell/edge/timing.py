"""A device's clocks, and where its time goes."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

LATENCY_WINDOW: Final = 512  # batches


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks a device needs."""

    wall_ns: Callable[[], int]
    """Nanoseconds since the Unix epoch; may jump."""
    monotonic_s: Callable[[], float]


@dataclass(slots=True)
class Timing:
    """Where the edge's time goes, in seconds; waiting is not counted."""

    forward_s: float = 0.0
    other_s: float = 0.0
    batches: int = 0
    latency_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    lag_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    publish_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
