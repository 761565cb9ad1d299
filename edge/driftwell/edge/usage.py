"""Pure. How much a device's images use each module of the whole model, as a running mean.

The selector says it of every batch without running a module (`ModularNetwork.importance`), so
the device need not hold the modules. It is all that the cloud learns of the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

WINDOW: Final = 512
"""Images that the mean is of, about; it follows as fast."""


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """A mean over images."""

    importance: tuple[NDArray[np.float32], ...] = ()
    """For each module layer (all its modules,), at least 0, with sum 1; empty: not measured."""
    images: int = 0
    """How many images it is the mean of, at most WINDOW."""


def observe(usage: Usage, gates: Sequence[NDArray[np.float32]], images: int) -> Usage:
    """Take in the mean gates of a batch of so many images, one or more.

    Gates that are not finite leave the mean as it was: they are of a broken batch.
    """
    if not all(np.isfinite(layer).all() for layer in gates):
        return usage
    if not usage.images:
        return Usage(tuple(np.array(layer, np.float32) for layer in gates), min(images, WINDOW))
    share = images / min(usage.images + images, max(WINDOW, images))
    mean = tuple(
        np.asarray(old + np.float32(share) * (new - old), np.float32)
        for old, new in zip(usage.importance, gates, strict=True)
    )
    return Usage(mean, min(usage.images + images, WINDOW))


class Meter:
    """The usage of a device so far, whichever sub-model runs."""

    def __init__(self) -> None:
        self.usage = Usage()

    def take(self, gates: Sequence[NDArray[np.float32]], images: int) -> None:
        """Take in a batch, as `observe`."""
        self.usage = observe(self.usage, gates, images)
