"""Pure. How long to wait before the next attempt: exponential, with full jitter.

Full jitter (a uniform draw between zero and the cap) keeps a fleet that lost the same
broker at the same moment from coming back at the same moment.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Bounds of the wait, in seconds."""

    first_s: float = 0.5
    longest_s: float = 30.0

    def delay_s(self, failures: int, uniform: Callable[[float, float], float]) -> float:
        """Seconds to wait after so many failures in a row (1 or more).

        Args:
            failures: Connections that failed one after the other.
            uniform: Draws from between its two arguments, like `random.uniform`.
        """
        cap = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 32))
        return uniform(0.0, cap)
