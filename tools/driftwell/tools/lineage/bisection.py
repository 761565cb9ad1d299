"""Pure. The search for the first bad version among some of which all after it are bad too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """Where it went wrong."""

    culprit: int
    """The first bad candidate."""
    before: int | None
    """The last good candidate; None if the culprit is the first candidate."""


def bisect(candidates: Sequence[int], is_good: Callable[[int], bool]) -> Found | None:
    """Find the first bad one of `candidates`, oldest first; what is before them is good.

    The last one is tried first. With 2^n candidates `is_good` is called at most 1 + n times.

    Returns:
        None if the last one is good: then there is nothing to find.
    """
    if not candidates or is_good(candidates[-1]):
        return None
    good, bad = -1, len(candidates) - 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_good(candidates[middle]):
            good = middle
        else:
            bad = middle
    return Found(candidates[bad], candidates[good] if good >= 0 else None)
