"""Counts what happens in one variant."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from driftwell.recording.batches import UNKNOWN
from driftwell.tools.whatif.curves import Curves, draw_curves
from driftwell.tools.whatif.results import Made, Outcome, Result


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
    _correct: list[NDArray[np.bool_]] = field(default_factory=list)
    _uploads: list[tuple[int, int]] = field(default_factory=list)

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
        self._uploads.append((time_ns, self.uploads))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(labelled,): whether each labelled image was answered right, in order."""
        return np.concatenate([np.zeros(0, np.bool_), *self._correct])

    def curves(self) -> Curves:
        """Accuracy and uploads over the run."""
        return draw_curves(self.correct, self._uploads, began_ns=self.began_ns)

    def outcome(self, variant: str, **known: float | None) -> Outcome:
        """The counted numbers, and others that are known under `Result`'s names."""
        correct = self.correct
        numbers: dict[str, float | None] = {
            "uploads": self.uploads,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "lag_s_p50": float(np.median(self.lags_s)) if self.lags_s else None,
            "versions": len(self.made),
            "applied": self.applied,
            "refused": self.refused,
            **known,
        }
        result = Result(
            variant=variant,
            n=self.n,
            labelled=len(correct),
            accuracy=round(100.0 * float(correct.mean()), 3) if len(correct) else None,
            made=tuple(sorted(self.made, key=lambda one: (one.cohort, one.version))),
            **numbers,  # type: ignore[arg-type]
        )
        return Outcome(result, self.curves())
