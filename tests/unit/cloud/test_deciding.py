"""The cloud's small decisions: when to learn, what to replay, what to admit, what is settled."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import tiny

from driftwell.cloud.inbox import admit
from driftwell.cloud.policy import Plan, plan_step
from driftwell.cloud.replay import choose_replay, step_generator
from driftwell.cloud.settings import PolicySettings, ReplaySettings
from driftwell.cloud.settlement import Settlement
from driftwell.messages.errors import WireError
from driftwell.messages.samples import SampleBatch, pack_columns
from driftwell.models.bundle import Bundle

POLICY = PolicySettings(batch=32, minimum_batch=8)
REPLAY = ReplaySettings(capacity=100, minimum=20, batch=10)
IMAGES = tiny.make_images(3)


@pytest.mark.parametrize(
    ("pending", "has_ended", "plan"),
    [
        (0, False, Plan()),
        (0, True, Plan()),
        (31, False, Plan()),
        (32, False, Plan(learn=32)),
        (100, True, Plan(learn=32)),
        (31, True, Plan(learn=31)),
        (8, True, Plan(learn=8)),
        (7, True, Plan(expire=7)),
        (1, True, Plan(expire=1)),
    ],
)
def test_the_policy_table(pending: int, has_ended: bool, plan: Plan) -> None:
    """A full batch at once; a rest waits, and in the end is learned from or expires."""
    assert plan_step(POLICY, pending, has_ended=has_ended) == plan
    assert plan.is_idle == (plan == Plan())


def test_nothing_is_replayed_from_a_small_buffer() -> None:
    """Below the minimum no position is chosen; from it on, as many as the settings say."""
    assert len(choose_replay(REPLAY, 19, step_generator(0, "cam-1", 0))) == 0
    assert len(choose_replay(REPLAY, 20, step_generator(0, "cam-1", 0))) == 10


@given(available=st.integers(20, 200), step=st.integers(0, 1000))
def test_replay_repeats_no_image_and_itself(available: int, step: int) -> None:
    """Positions are in the buffer, each once, and the same for the same step."""
    chosen = choose_replay(REPLAY, available, step_generator(1, "cam-1", step)).tolist()

    assert len(set(chosen)) == len(chosen) == 10
    assert all(0 <= position < available for position in chosen)
    assert choose_replay(REPLAY, available, step_generator(1, "cam-1", step)).tolist() == chosen


def test_each_step_and_cohort_draws_its_own() -> None:
    """Seed, cohort and step all change what is drawn."""
    keys = [(0, "cam-1", 0), (1, "cam-1", 0), (0, "cam-2", 0), (0, "cam-1", 1)]
    draws = {tuple(choose_replay(REPLAY, 100, step_generator(*key)).tolist()) for key in keys}
    assert len(draws) == 4


def columns(entropy: float, prediction: int) -> dict[str, object]:
    packed = pack_columns(
        np.arange(3, dtype=np.uint64), np.full(3, entropy, np.float32),
        np.full(3, prediction, np.uint16),
    )  # fmt: skip
    return {"columns": packed}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("wrong-model", {"model": "b" * 64}),
        ("malformed", {"seq": 0}),
        ("not-finite", columns(float("nan"), 0)),
        ("bad-array", columns(0.5, 4)),
        ("bad-array", {"columns": ()}),
        ("bad-array", {"images": tiny.make_batch(np.zeros((3, 8, 8, 3), np.uint8),
                                                 model="a" * 64).images}),
        ("bad-array", {"images": tiny.make_batch(tiny.make_images(2), model="a" * 64).images}),
    ],
)  # fmt: skip
def test_each_bad_batch_has_its_code(edge: Bundle, code: str, change: dict[str, object]) -> None:
    """One thing wrong is refused with its code; the batch without it is admitted."""
    good: SampleBatch = tiny.make_batch(IMAGES, model=edge.digest)
    admitted = admit(good, model=edge.digest, manifest=edge.manifest)
    assert np.array_equal(admitted, IMAGES)

    with pytest.raises(WireError) as caught:
        admit(msgspec.structs.replace(good, **change), model=edge.digest, manifest=edge.manifest)

    assert caught.value.code == code


def test_a_session_waits_until_it_is_settled() -> None:
    """Settling ends the wait and moves the mark; other sessions are not touched."""
    settlement = Settlement()
    settlement.wait("home", "cam-1", "a")
    settlement.wait("home", "cam-2", "b")
    assert settlement.waiting == [("cam-1", "a"), ("cam-2", "b")]

    settlement.settle("cam-1", "a", 7)

    assert settlement.waiting == [("cam-2", "b")]
    assert (settlement.settled_seq("cam-1", "a"), settlement.settled_seq("cam-2", "b")) == (7, 0)
    assert settlement.has_waiting
    assert not settlement.is_waiting("cam-1", "a")


def test_a_session_waits_for_every_cohort_it_fed() -> None:
    """The one it fed last is last; settled, it waits for none."""
    settlement = Settlement()
    for cohort in ("home", "home/1", "home"):
        settlement.wait(cohort, "cam-1", "a")

    assert settlement.cohorts_of("cam-1", "a") == ["home/1", "home"]
    settlement.settle("cam-1", "a", 7)
    assert settlement.cohorts_of("cam-1", "a") == []


def test_the_longest_settled_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks are bounded, oldest out first; settling again makes a mark young."""
    monkeypatch.setattr("driftwell.cloud.settlement.MAX_SESSIONS", 2)
    settlement = Settlement()
    for session in ("a", "b", "a", "c"):
        settlement.settle("cam-1", session, 5)

    marks = [settlement.settled_seq("cam-1", session) for session in "abc"]
    assert marks == [5, 0, 5]
