"""Where the bench's recordings go."""

from pathlib import Path

import pytest

from driftwell.tools.bench.plan import Plan, Protocol


def plan(
    *, record: Path | None, streams: int = 1, methods: tuple[str, ...] = ("none", "cema"),
    protocol: Protocol = "reset",
) -> Plan:  # fmt: skip
    return Plan(
        edge=Path("edge"), foundation=Path("foundation"),
        streams=tuple(Path(f"s{number}.npz") for number in range(streams)),
        methods=methods, transport="inprocess", broker="", pace="lockstep", protocol=protocol,
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
    made = plan(record=Path("a.mcap"), streams=3, protocol="continual")

    assert made.recording_of("continual", "cema") == Path("a.mcap")
