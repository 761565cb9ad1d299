"""The Pareto front: nobody on it is beaten, and everybody off it is."""

from hypothesis import given
from hypothesis import strategies as st

from driftwell.tools.whatif.pareto import Point, pareto_front

ACCURACIES = st.one_of(st.none(), st.integers(0, 5).map(float))
POINTS = st.lists(st.builds(Point, ACCURACIES, st.integers(0, 5)), max_size=12)


def test_the_front_is_what_nobody_beats() -> None:
    """Dear and good, cheap and poor are on it; dear and poor is not."""
    points = [Point(80.0, 900), Point(70.0, 100), Point(70.0, 900), Point(60.0, 200)]

    assert pareto_front(points) == [True, True, False, False]


def test_points_that_are_alike_are_on_it_together() -> None:
    """A tie has two winners."""
    assert pareto_front([Point(80.0, 5), Point(80.0, 5), Point(80.0, 6)]) == [True, True, False]


def test_without_an_accuracy_there_is_no_place() -> None:
    """And nobody is beaten by it, however few bytes it takes."""
    assert pareto_front([Point(None, 0), Point(1.0, 9)]) == [False, True]
    assert pareto_front([Point(None, 0)]) == [False]
    assert pareto_front([]) == []


@given(POINTS)
def test_whoever_is_off_the_front_is_beaten_by_one_on_it(points: list[Point]) -> None:
    """So the front alone says how far one can come."""
    front = pareto_front(points)
    best = [(p.accuracy, p.bytes) for p, is_on in zip(points, front, strict=True) if is_on]

    for point, is_on in zip(points, front, strict=True):
        if point.accuracy is None:
            assert not is_on
            continue
        better = [
            (accuracy, size)
            for accuracy, size in best
            if accuracy is not None and accuracy >= point.accuracy and size <= point.bytes
        ]
        assert is_on == (set(better) == {(point.accuracy, point.bytes)})
