"""Pure. Which variants nobody beats: more accurate for the same bytes, or as accurate for fewer."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One variant as the front sees it."""

    accuracy: float | None
    """Percent; None: unknown, and then it is on no front."""
    bytes: int


def pareto_front(points: Sequence[Point]) -> list[bool]:
    """(N,) -> (N,): whether a point is on the front, where no other one beats it.

    One beats another if it is at least as accurate for at most as many bytes, and better in
    one of both. So points that are alike are on the front together.
    """
    return [
        point.accuracy is not None and not any(_beats(other, point) for other in points)
        for point in points
    ]


def _beats(one: Point, other: Point) -> bool:
    if one.accuracy is None or other.accuracy is None:
        return False
    return (
        one.accuracy >= other.accuracy
        and one.bytes <= other.bytes
        and (one.accuracy, one.bytes) != (other.accuracy, other.bytes)
    )
