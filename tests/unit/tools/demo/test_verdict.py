"""Who has recovered, and how it is said."""

import numpy as np
import pytest

from driftwell.tools.demo.verdict import Outcome, judge, verdict_line


def outcome(weather: str, *, unaided: float, adapted: float) -> Outcome:
    """An outcome with these accuracies in the weather."""
    return Outcome(
        f"cam-{weather}",
        weather,
        clear_adapted=0.99,
        clear_unaided=0.99,
        shifted_adapted=adapted,
        shifted_unaided=unaided,
    )


def test_only_what_comes_after_the_shift_counts() -> None:
    """The clear half is told apart, image by image."""
    adapted = np.array([True, True, True, True, True, False, True, True])
    unaided = np.array([True, True, True, False, False, False, True, False])

    judged = judge("cam-fog", "fog", adapted=adapted, unaided=unaided, shift_at=4)

    assert (judged.clear_adapted, judged.clear_unaided) == (1.0, 0.75)
    assert (judged.shifted_adapted, judged.shifted_unaided) == (0.75, 0.25)
    assert judged.gain == 0.5


@pytest.mark.parametrize(("adapted", "expected"), [(0.599, False), (0.6, True), (0.4, False)])
def test_ten_points_are_needed(adapted: float, *, expected: bool) -> None:
    """Exactly ten are enough, whatever the floats say."""
    assert outcome("fog", unaided=0.5, adapted=adapted).has_recovered is expected


def test_the_verdict_is_one_line() -> None:
    """It counts who recovered, and gives each weather's accuracies without and with."""
    line = verdict_line(
        [
            outcome("fog", unaided=0.41, adapted=0.86),
            outcome("rain", unaided=0.5, adapted=0.52),
        ]
    )

    assert line == "1 of 2 devices recovered: fog 41 -> 86 %, rain 50 -> 52 %"
