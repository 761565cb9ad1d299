"""Pure. Did the cameras recover? The numbers of the report, and the one line at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NEEDED_GAIN: Final = 0.10
"""Accuracy a recovered device is above its own network without adaptation."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One device's accuracies over the same images: with adaptation and without."""

    device: str
    weather: str
    clear_adapted: float
    clear_unaided: float
    shifted_adapted: float
    shifted_unaided: float

    @property
    def gain(self) -> float:
        """What adaptation is worth in the weather."""
        return self.shifted_adapted - self.shifted_unaided

    @property
    def has_recovered(self) -> bool:
        """Whether that is enough."""
        return round(self.gain, 6) >= NEEDED_GAIN


def judge(
    device: str,
    weather: str,
    *,
    adapted: NDArray[np.bool_],
    unaided: NDArray[np.bool_],
    shift_at: int,
) -> Outcome:
    """Compare two runs over one stream; (N,) each, whether the answer was right."""
    return Outcome(
        device,
        weather,
        clear_adapted=float(adapted[:shift_at].mean()),
        clear_unaided=float(unaided[:shift_at].mean()),
        shifted_adapted=float(adapted[shift_at:].mean()),
        shifted_unaided=float(unaided[shift_at:].mean()),
    )


def verdict_line(outcomes: Sequence[Outcome]) -> str:
    """Such as `3 of 3 devices recovered: fog 17 -> 85 %, rain 44 -> 78 %, dirt 30 -> 80 %`."""
    recovered = sum(outcome.has_recovered for outcome in outcomes)
    changes = ", ".join(
        f"{outcome.weather} {100 * outcome.shifted_unaided:.0f} -> "
        f"{100 * outcome.shifted_adapted:.0f} %"
        for outcome in outcomes
    )
    return f"{recovered} of {len(outcomes)} devices recovered: {changes}"
