"""What every learner is: value in, value out.

The same models, images, settings and generator give the same bits on one torch build.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from driftwell.cloud.adaptation import AdaptedState
from driftwell.cloud.gate import GateVerdict
from driftwell.messages.delta import Delta
from driftwell.messages.errors import BundleError
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle


def _no_targets() -> NDArray[np.float32]:
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a new domain's models are to come from."""

    name: str
    """Of the domain its first device came from."""
    steps: int
    """As they are after so many steps there: all that its samples of that moment lead to."""


@dataclass(frozen=True, slots=True)
class CohortModels:
    """Both models of a cohort, as they are after `steps` steps on `samples` uploads."""

    foundation: AdaptedState
    edge: AdaptedState
    steps: int = 0
    """Steps of the cohort; a revert does not take any back, so no replay comes twice."""
    samples: int = 0
    """Uploads the edge model has learned from; after a revert, as many as it had then."""
    targets: NDArray[np.float32] = field(default_factory=_no_targets)
    """(M, C): what the teacher said of the M images of the buffer, if the learner keeps it."""
    origin: Origin | None = None
    """Set while a new domain waits for the models it begins with; it does not learn meanwhile."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step led to."""

    models: CohortModels
    foundation_loss: float
    distillation_loss: float
    delta: Delta | None = None
    """How the new version travels, if the learner has coded it; it leads to `models.edge`."""
    verdict: GateVerdict | None = None
    """What the gate said, if it was asked."""

    @property
    def is_finite(self) -> bool:
        """Whether the step may be kept."""
        return math.isfinite(self.foundation_loss + self.distillation_loss) and all(
            bool(np.isfinite(array).all()) for array in self.models.edge.arrays.values()
        )


class Learner(Protocol):
    """Both networks, shared by all cohorts. Not thread safe: one step at a time."""

    foundation_digest: str
    start_digest: str | None
    """Of the bundle that `start` is made of."""
    source: CohortModels
    """Where a cohort's learning begins, and goes back to."""
    start: tuple[CohortModels, Delta] | None
    """What its devices get before they have sent anything; None: nothing but the source."""

    def step(
        self,
        models: CohortModels,
        uploads: Pixels,
        replay: Pixels,
        generator: np.random.Generator,
    ) -> Step:
        """Learn from uploads, each used once, with images of the buffer beside them."""


def require_same_task(foundation: Bundle, edge: Bundle) -> None:
    """Check that the one model can teach the other.

    Raises:
        BundleError: if the bundles do not take the same images to the same classes.
    """
    if foundation.manifest.input != edge.manifest.input:
        raise BundleError("foundation and edge bundle take different images")
    if foundation.manifest.classes != edge.manifest.classes:
        raise BundleError("foundation and edge bundle know different classes")
