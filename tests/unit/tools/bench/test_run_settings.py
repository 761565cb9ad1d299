"""The settings of a run, and its key."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests import tiny

from driftwell.cloud import settings
from driftwell.cloud.settings import edge_document, method_document
from driftwell.messages.errors import SettingsError
from driftwell.tools.bench.plan import Plan, tasks_of
from driftwell.tools.bench.run_settings import Keys, cloud_settings, edge_settings


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Two bundles and two streams."""
    folder = tmp_path_factory.mktemp("bench")
    tiny.make_bundle(folder, "edge")
    tiny.make_bundle(folder, "foundation")
    streams = tuple(tiny.write_stream(folder / f"{n}.npz", 40, seed=n) for n in range(2))
    return Plan(
        edge=folder / "edge", foundation=folder / "foundation", streams=streams,
        methods=("none", "cema"), transport="virtual", broker="", pace="lockstep",
        scenario="reset", batch=16, seed=0, threads=1,
    )  # fmt: skip


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A method whose file has a table for the devices."""
    text = '[edge]\nstatistics = "delivered"\nfilter = {e_max = 0.3}\n[policy]\nbatch = 7'
    (tmp_path / "tuned.toml").write_text(text, encoding="utf-8")
    monkeypatch.setitem(settings.METHODS, "tuned", str(tmp_path / "tuned.toml"))
    return "tuned"


def test_the_table_for_devices_is_no_setting_of_the_cloud(tuned: str) -> None:
    """It is read apart, and a method without one asks for nothing."""
    assert method_document(tuned) == {"name": "tuned", "policy": {"batch": 7}}
    assert edge_document(tuned) == {"statistics": "delivered", "filter": {"e_max": 0.3}}
    assert edge_document("cema") == {}
    with pytest.raises(SettingsError, match="unknown method"):
        edge_document("magic")


def test_what_the_user_sets_is_laid_over_what_the_method_asks_for(tuned: str, plan: Plan) -> None:
    """Key by key."""
    changed = replace(plan, edge_assignments=("filter.e_max=0.5",), devices=2, pooling="cohort")

    edge = edge_settings(changed, tuned, device="bench-1")

    assert (edge.statistics, edge.filter.e_max) == ("delivered", 0.5)
    assert (edge.device, edge.cohort_name, edge.batch) == ("bench-1", "pool", 16)
    assert edge_settings(plan, "cema").statistics == "first-batch"
    assert cloud_settings(replace(plan, seed=4), "cema").seed == 4


CHANGES: dict[str, Callable[[Plan], Plan]] = {
    "seed": lambda p: replace(p, seed=1),
    "batch": lambda p: replace(p, batch=8),
    "scenario": lambda p: replace(p, scenario="correlated"),
    "delay": lambda p: replace(p, delay=1),
    "drop": lambda p: replace(p, drop=0.1),
    "devices": lambda p: replace(p, devices=2),
    "images": lambda p: replace(p, images=20),
    "edge setting": lambda p: replace(p, edge_assignments=("filter.e_max=0.5",)),
    "cloud setting": lambda p: replace(p, cloud_assignments=("method.policy.batch=9",)),
    "bundle": lambda p: replace(p, foundation=p.edge),
}


def key(plan: Plan, place: int = 1) -> str:
    return Keys().key_of(tasks_of(plan)[place])


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_a_result_is_in_its_key(change: str, plan: Plan) -> None:
    """So that a file of results is never asked for another run's."""
    assert key(plan) != key(CHANGES[change](plan))


def test_where_things_are_is_not_in_the_key(plan: Plan, tmp_path: Path) -> None:
    """The same bundle, the same stream elsewhere; what is in them is."""
    moved = tmp_path / plan.streams[0].name
    moved.write_bytes(plan.streams[0].read_bytes())
    elsewhere = replace(plan, streams=(moved, *plan.streams[1:]))

    assert key(plan) == key(elsewhere) == key(plan)
    tiny.write_stream(moved, 40, seed=9)
    assert key(plan) != key(elsewhere)


def test_a_default_that_is_spelled_out_is_the_same_run(plan: Plan) -> None:
    """The settings count, not how they were given."""
    spelled: dict[str, Any] = {"edge_assignments": ("statistics=first-batch",)}

    assert key(plan) == key(replace(plan, **spelled))


def test_every_run_of_a_plan_has_a_key_of_its_own(plan: Plan) -> None:
    """By stream, method and seed."""
    keys = Keys()
    tasks = tasks_of(replace(plan, seeds=2))

    assert len({keys.key_of(task) for task in tasks}) == len(tasks) == 8


def test_an_assignment_with_a_methods_name_is_for_this_method_alone(plan: Plan) -> None:
    ours = replace(plan, cloud_assignments=("driftwell:method.student.steps=3", "seed=0"))
    assert ours.settings_of_cloud("driftwell") == ("method.student.steps=3", "seed=0")
    assert ours.settings_of_cloud("cema") == ("seed=0",)
    edge = replace(plan, edge_assignments=("cema:batch=9",), budget_bytes=7)
    assert edge.settings_of_edge("cema") == ("budget.bytes_total=7", "batch=9")
    assert edge.settings_of_edge("driftwell") == ("budget.bytes_total=7",)


def test_an_assignment_for_a_method_nobody_knows_is_refused(plan: Plan) -> None:
    wrong = replace(plan, cloud_assignments=("sema:seed=0",))
    with pytest.raises(SettingsError, match="'sema' is none of cema, driftwell"):
        wrong.settings_of_cloud("cema")


def test_a_result_names_what_was_changed_for_its_method_alone(plan: Plan) -> None:
    """Without the method's name: the column has it already."""
    ours = replace(plan, edge_assignments=("batch=9",), cloud_assignments=("cema:seed=1",))
    assert ours.assignments("cema") == ("edge:batch=9", "cloud:seed=1")
    assert ours.assignments("driftwell") == ("edge:batch=9",)
