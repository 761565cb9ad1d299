"""What a bench tells while it runs."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from driftwell.tools.bench.plan import Plan, tasks_of
from driftwell.tools.bench.progress import Lines, spoken, time_left_s
from driftwell.tools.bench.results import Result

PLAN = Plan(
    edge=Path("e"), foundation=Path("f"), streams=(Path("fog.npz"),), methods=("none", "bn"),
    transport="virtual", broker="", pace="lockstep", scenario="reset", batch=8, seed=0, threads=1,
)  # fmt: skip
RESULT = Result(
    stream="fog", method="none", seed=0, n=9, accuracy=76.2, uploaded=0, bytes_up=0, bytes_down=0,
    versions_applied=0, versions_refused=0, lag_s_p50=None, edge_forward_ms=0.1, edge_other_ms=0.0,
    spent_s=12.34,
)  # fmt: skip


def test_the_time_left_goes_by_method() -> None:
    """A slow method that waits is not taken for a fast one that ran."""
    spent_s = [("none", 1.0), ("cema", 100.0), ("cema", 120.0)]

    assert time_left_s(spent_s, ["cema", "none"], 1) == pytest.approx(111.0)
    assert time_left_s(spent_s, ["cema"] * 4, 2) == pytest.approx(220.0)
    assert time_left_s(spent_s, ["cema"], 8) == pytest.approx(110.0)
    assert time_left_s([("none", 1.0), ("bn", 3.0)], ["eta"], 1) == pytest.approx(2.0)
    assert time_left_s(spent_s, [], 4) == 0.0


@pytest.mark.parametrize(
    ("seconds", "said"), [(12.4, "about 12 s"), (840, "about 14 min"), (9000, "about 2.5 h")]
)
def test_time_is_told_in_the_unit_of_people(seconds: float, said: str) -> None:
    """Seconds, minutes or hours."""
    assert spoken(seconds) == said


def test_a_line_says_what_a_run_came_to() -> None:
    """Which one, its accuracy, its time, and how long the others will take."""
    text = StringIO()
    tasks = tasks_of(replace(PLAN, seeds=2))
    with Lines(Console(file=text), tasks, [9] * 4, jobs=1) as lines:
        lines.skipped(1, RESULT)
        lines.started(0)
        lines.came(0, 3)
        lines.has(0, RESULT)
        lines.ended(0, failed=False)
        lines.ended(2, failed=True)
        lines.has(3, msgspec.structs.replace(RESULT, spent_s=1.0))

    assert text.getvalue().splitlines() == [
        "[1/4] fog: bn seed 0 … 76.20 % (was there)",
        "[2/4] fog: none seed 0 … 76.20 % (12.3 s, about 25 s left)",
        "[3/4] fog: none seed 1 … failed",
        "[4/4] fog: bn seed 1 … 76.20 % (1.0 s)",
    ]
