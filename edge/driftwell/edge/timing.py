"""Where a device's time goes."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

LATENCY_WINDOW: Final = 512  # batches


@dataclass(slots=True)
class Timing:
    """Where the edge's time goes, in seconds; waiting is not counted."""

    forward_s: float = 0.0
    other_s: float = 0.0
    batches: int = 0
    latency_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    lag_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    publish_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
