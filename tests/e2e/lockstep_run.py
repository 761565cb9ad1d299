"""A live run in lockstep and its recording, for what asks about recorded runs."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from tests import tiny

from driftwell.tools.bench.loop import Outcome, run_stream
from driftwell.tools.bench.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 200
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Recorded:
    """A live run in lockstep, and its recording."""

    folder: Path
    plan: Plan
    outcome: Outcome

    @property
    def path(self) -> Path:
        return self.folder / "run.mcap"

    def live(self, folder: Path, **changes: object) -> Outcome:
        """The same run live once more, with changes to its plan."""
        plan = replace(self.plan, record=None, **changes)  # type: ignore[arg-type]
        folder.mkdir()
        return asyncio.run(run_stream(plan, "cema", plan.streams[0], folder))


def record_run(folder: Path) -> Recorded:
    """Two tiny bundles, a stream of labelled images, one live run of it."""
    tiny.make_bundle(folder, "edge")
    tiny.make_bundle(folder, "foundation")
    plan = Plan(
        edge=folder / "edge",
        foundation=folder / "foundation",
        streams=(tiny.write_stream(folder / "stream.npz", IMAGES),),
        methods=("cema",),
        transport="inprocess",
        broker="",
        pace="lockstep",
        scenario="reset",
        batch=32,
        seed=0,
        threads=1,
        edge_assignments=("filter.e_min=0.1", "filter.e_max=0.9", "filter.warm_up_samples=64"),
        cloud_assignments=(
            "method.policy.batch=16", "method.replay.minimum=32", "method.replay.batch=16",
        ),
        record=folder / "run.mcap",
    )  # fmt: skip
    (folder / "run").mkdir()
    outcome = asyncio.run(run_stream(plan, "cema", plan.streams[0], folder / "run"))
    return Recorded(folder, plan, outcome)
