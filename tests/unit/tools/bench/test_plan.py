"""What a plan means: its runs, what it refuses, where its recordings go."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driftwell.messages.errors import SettingsError
from driftwell.tools.bench.plan import Plan, Scenario, edge_defaults, tasks_of


def plan(
    *, record: Path | None, streams: int = 1, methods: tuple[str, ...] = ("none", "cema"),
    scenario: Scenario = "reset",
) -> Plan:  # fmt: skip
    return Plan(
        edge=Path("edge"), foundation=Path("foundation"),
        streams=tuple(Path(f"s{number}.npz") for number in range(streams)),
        methods=methods, transport="inprocess", broker="", pace="lockstep", scenario=scenario,
        batch=64, seed=0, threads=1, record=record,
    )  # fmt: skip


def test_one_run_has_the_name_it_was_given() -> None:
    """Baselines without a cloud send nothing, so they do not count."""
    assert plan(record=Path("a.mcap")).recording_of("s0", "cema") == Path("a.mcap")
    assert plan(record=None).recording_of("s0", "cema") is None


@pytest.mark.parametrize(
    ("streams", "methods"), [(2, ("cema",)), (1, ("cema", "driftwell")), (2, ("none", "cema"))]
)
def test_several_runs_have_a_recording_each(streams: int, methods: tuple[str, ...]) -> None:
    """Each is named after its stream and its method."""
    made = plan(record=Path("out/a.mcap"), streams=streams, methods=methods)

    assert made.recording_of("s0", "cema") == Path("out/a-s0-cema.mcap")


def test_streams_one_after_the_other_are_one_run() -> None:
    """With `continual` there is one recording however many streams there are."""
    made = plan(record=Path("a.mcap"), streams=3, scenario="continual")

    assert made.recording_of("continual", "cema") == Path("a.mcap")


def test_every_method_runs_on_every_stream_with_every_seed() -> None:
    """Or on all streams at once, where the scenario is of all of them."""
    reset = replace(plan(record=None, streams=2), seed=5, seeds=2)

    runs = [(task.plan.seed, task.name, task.method) for task in tasks_of(reset)]

    assert runs == [
        (seed, name, method)
        for seed in (5, 6) for name in ("s0", "s1") for method in ("none", "cema")
    ]  # fmt: skip
    mixed = tasks_of(replace(reset, scenario="mixed", seeds=1))
    assert [(task.name, len(task.streams)) for task in mixed] == [("mixed", 2), ("mixed", 2)]
    assert [task.streams for task in tasks_of(reset)[:4:2]] == [
        (Path("s0.npz"),),
        (Path("s1.npz"),),
    ]


def test_recordings_of_several_seeds_have_names_of_their_own() -> None:
    """So that none is written over."""
    several = replace(plan(record=Path("a.mcap")), seeds=2)

    names = {t.plan.recording_of(t.name, t.method) for t in tasks_of(several) if t.method == "cema"}

    assert names == {Path("a-s0-cema-0.mcap"), Path("a-s0-cema-1.mcap")}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scenario": "clean"}, "one --stream"),
        ({"streams": (Path("a/s.npz"), Path("b/s.npz"))}, "same name"),
        ({"devices": 2}, "--transport virtual"),
        ({"drop": 0.1}, "--transport virtual"),
        ({"delay": 1}, "--transport virtual"),
        ({"pooling": "cohort"}, "--devices 2"),
        ({"transport": "virtual", "pace": "max"}, "lockstep"),
        ({"transport": "virtual", "record": Path("a.mcap")}, "--record"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], said: str) -> None:
    """Before anything runs, and with the option that is wrong."""
    good = plan(record=None, streams=2)

    with pytest.raises(SettingsError, match=said):
        replace(good, **changes)


def test_a_budget_is_an_edge_setting_that_the_user_may_still_change() -> None:
    """Later assignments win."""
    budget = replace(plan(record=None), budget_bytes=5000, edge_assignments=("a=1",))

    assert budget.settings_of_edge("driftwell") == ("budget.bytes_total=5000", "a=1")


def test_baselines_ask_for_no_edge_settings() -> None:
    """They have no device of ours."""
    assert edge_defaults("none") == {}
