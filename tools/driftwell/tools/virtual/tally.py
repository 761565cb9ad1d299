"""Pure. Counts what happens in one run."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.recording.batches import UNKNOWN


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A version the cloud made."""

    cohort: str
    version: int
    digest: str
    """Of the adaptable state it leads to."""


@dataclass(slots=True)
class Tally:
    """Counters of one run; bytes are of whole PUBLISH packets."""

    n: int = 0
    uploads: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    applied: int = 0
    refused: int = 0
    lags_s: list[float] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    began_ns: int = 0
    forward_s: float = 0.0
    """Real seconds in the devices' forward passes."""
    lost_up: int = 0
    """Sample batches that were sent and never came."""
    lost_down: int = 0
    """Versions that were sent and never came, each device counted."""
    steps: list[tuple[int, int]] = field(default_factory=list)
    """Times in nanoseconds, and images uploaded until then."""
    _correct: list[NDArray[np.bool_]] = field(default_factory=list)

    def begin(self, time_ns: int) -> None:
        """The first message came; later calls change nothing."""
        self.began_ns = self.began_ns or time_ns

    def answer(self, answers: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Count a batch of answers, both (N,); those without a label count as answered only."""
        self.n += len(answers)
        known = labels != UNKNOWN
        self._correct.append(answers[known] == labels[known])

    def upload(self, samples: int, time_ns: int) -> None:
        """Count uploaded images; with 0 the curve goes on."""
        self.uploads += samples
        self.steps.append((time_ns, self.uploads))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(labelled,): whether each labelled image was answered right, in order."""
        return np.concatenate([np.zeros(0, np.bool_), *self._correct])
