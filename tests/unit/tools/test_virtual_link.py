"""Links in virtual time that are slow, or lose messages."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from driftwell.models.bundle import Bundle, open_bundle
from driftwell.tools.bench.plan import Plan
from driftwell.tools.bench.scenarios import Stream, put_in_order
from driftwell.tools.bench.virtual_run import VirtualOutcome, run_virtual
from driftwell.tools.virtual.link import Link, LinkSettings

BATCH = 16
IMAGES = 6 * BATCH


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A stream of which every image is uploaded, so that every batch makes a version."""
    folder = tmp_path_factory.mktemp("bundles")
    tiny.make_bundle(folder, "edge")
    tiny.make_bundle(folder, "foundation")
    return Plan(
        edge=folder / "edge", foundation=folder / "foundation", streams=(folder / "s.npz",),
        methods=("cema",), transport="virtual", broker="", pace="lockstep", scenario="reset",
        batch=BATCH, seed=0, threads=1,
        edge_assignments=("filter.e_min=0.0", "filter.e_max=1.0"),
        cloud_assignments=(f"method.policy.batch={BATCH}",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def edge(plan: Plan) -> Bundle:
    """What the devices run."""
    return open_bundle(plan.edge)


def run(plan: Plan, edge: Bundle, folder: Path) -> VirtualOutcome:
    streams = [Stream("s", tiny.make_images(IMAGES), np.arange(IMAGES) % len(tiny.CLASSES))]
    order = put_in_order(plan.scenario, streams, seed=plan.seed)
    return run_virtual(plan, "cema", edge, (order, streams), folder, lambda _done: None)


@pytest.mark.parametrize(("delay", "applied"), [(0, 5), (1, 4), (3, 2), (5, 0), (99, 0)])
def test_a_version_comes_so_many_batches_later(
    delay: int, applied: int, plan: Plan, edge: Bundle, tmp_path: Path
) -> None:
    """The cloud learns at once all the same; what is late at the end never comes."""
    late = run(replace(plan, delay=delay), edge, tmp_path).tally

    assert len(late.made) == 6
    assert late.applied == applied
    batch_s = BATCH / 30
    assert late.lags_s == pytest.approx([(delay + 1) * batch_s] * applied)


def test_a_lost_version_is_made_good_by_the_next(plan: Plan, edge: Bundle, tmp_path: Path) -> None:
    """Deltas are cumulative: nothing is refused. What was sent and lost counts as sent."""
    perfect = run(plan, edge, tmp_path / "perfect").tally
    lossy = run(replace(plan, drop=0.4, seed=7), edge, tmp_path / "lossy").tally

    assert lossy.lost_up > 0
    assert lossy.lost_down > 0
    assert lossy.refused == 0
    assert 0 < lossy.applied <= len(lossy.made) - lossy.lost_down
    assert len(lossy.made) == 6 - lossy.lost_up
    assert lossy.uploads == IMAGES
    assert lossy.bytes_up == pytest.approx(perfect.bytes_up, rel=0.01)


@pytest.mark.parametrize(("share", "batches"), [(0.2, 1), (0.6, 3), (0.99, 5)])
def test_a_budget_of_bytes_is_never_passed(
    share: float, batches: int, plan: Plan, edge: Bundle, tmp_path: Path
) -> None:
    """Bytes on the wire, those of lost messages among them; what there is room for is sent."""
    free = run(plan, edge, tmp_path / "free").tally
    budget_bytes = round(share * free.bytes_up)
    held = run(replace(plan, budget_bytes=budget_bytes, drop=0.4), edge, tmp_path / "held").tally

    assert 0 < held.bytes_up <= budget_bytes
    assert held.uploads == batches * BATCH


def test_the_same_seed_loses_the_same(plan: Plan, edge: Bundle, tmp_path: Path) -> None:
    """Down to the bits of every version."""
    lossy = replace(plan, drop=0.4, seed=7)

    once, again = (run(lossy, edge, tmp_path / name).tally for name in ("once", "again"))

    assert once.made == again.made
    assert (once.lost_up, once.lost_down) == (again.lost_up, again.lost_down)


def test_a_link_that_loses_everything_leaves_the_source(
    plan: Plan, edge: Bundle, tmp_path: Path
) -> None:
    """The device goes on answering."""
    dead = run(replace(plan, drop=1.0), edge, tmp_path)

    assert (dead.tally.made, dead.tally.applied, dead.tally.lost_up) == ([], 0, 6)
    assert sum(len(one.at) for one in dead.answered) == IMAGES


def test_devices_pool_what_they_see(plan: Plan, edge: Bundle, tmp_path: Path) -> None:
    """In one cohort each gets the versions made of all their images."""
    two = replace(plan, devices=2)
    alone = run(two, edge, tmp_path / "alone").tally
    pooled = run(replace(two, pooling="cohort"), edge, tmp_path / "pooled").tally

    assert {made.cohort for made in alone.made} == {"bench-0", "bench-1"}
    assert {made.cohort for made in pooled.made} == {"pool"}
    assert max(made.version for made in pooled.made) == 2 * max(m.version for m in alone.made)


def test_a_version_is_late_from_the_moment_it_is_sent() -> None:
    """And comes once."""
    link = Link(LinkSettings(delay_batches=2), np.random.default_rng(0))
    version = object()
    link.send(version, answered=3)  # type: ignore[arg-type]  # a link does not look into it

    assert [link.arrived(answered=n) for n in (3, 4, 5, 6)] == [[], [], [version], []]
