"""Pure. How much a device's images use each module of the whole model, and their classes.

The selector says it of every batch without running a module (`ModularNetwork.importance`), so
the device need not hold the modules. That and the shares of the classes among its answers, both as
running means, are all that a sub-model is planned and refined from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    class_shares: NDArray[np.float32] | None = None
    """Mean probability of each class (C,), with sum 1; None: nothing was answered yet."""
    answers: int = 0
    """How many answers it is the mean of, at most WINDOW."""


def observe(usage: Usage, gates: Sequence[NDArray[np.float32]], images: int) -> Usage:
    """Take in the mean gates of a batch of so many images, one or more.

    Gates that are not finite leave the mean as it was: they are of a broken batch.
    """
    if not all(np.isfinite(layer).all() for layer in gates):
        return usage
    before = usage.importance or tuple(np.zeros_like(layer) for layer in gates)
    share = _share(images, usage.images)
    mean = tuple(_moved(old, new, share) for old, new in zip(before, gates, strict=True))
    return replace(usage, importance=mean, images=min(usage.images + images, WINDOW))


def note_answers(usage: Usage, logits: NDArray[np.float32]) -> Usage:
    """Take in the answers to a batch (N, C), N >= 1; some that are not finite: all are left out."""
    if not np.isfinite(logits).all():
        return usage
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    mean = (exponent / exponent.sum(axis=1, keepdims=True)).mean(axis=0)
    before = np.zeros_like(mean) if usage.class_shares is None else usage.class_shares
    shares = _moved(before, mean, _share(len(logits), usage.answers))
    return replace(usage, class_shares=shares, answers=min(usage.answers + len(logits), WINDOW))


def _share(new: int, behind: int) -> float:
    """What so many new images weigh in a mean; the first ones all."""
    return new / min(behind + new, max(WINDOW, new))


def _moved(old: NDArray[np.float32], new: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    return np.asarray(old + np.float32(share) * (new - old), np.float32)


class Meter:
    """The usage of a device so far, whichever sub-model runs."""

    def __init__(self) -> None:
        self.usage = Usage()

    def take(self, gates: Sequence[NDArray[np.float32]], images: int) -> None:
        """Take in a batch, as `observe`."""
        self.usage = observe(self.usage, gates, images)

    def answer(self, logits: NDArray[np.float32]) -> None:
        """Take in the answers to a batch, as `note_answers`."""
        self.usage = note_answers(self.usage, logits)
