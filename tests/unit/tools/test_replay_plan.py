"""What of a recording is replayed: filters, groups, and what is wrong before anything is told."""

import re

import pytest

from driftwell.messages.errors import SettingsError
from driftwell.messages.topics import Kind
from driftwell.tools.replay.plan import Wishes, make_plan
from driftwell.tools.replay.rewriting import UPWARD
from driftwell.tools.replay.timeline import Span

TOPICS = {
    "driftwell/v1/plant/cam-1/samples": 5,
    "driftwell/v1/plant/cam-1/state": 2,
    "driftwell/v1/plant/cam-1/ack": 5,
    "driftwell/v1/plant/cam-1/stream": 9,
    "driftwell/v1/plant/cam-2/samples": 0,
    "driftwell/v1/farm/cam-3/state": 1,
    "driftwell/v1/plant/_/head/yard": 3,
    "somebody/else": 7,
}
WHOLE = Span(0, 10**10)


def topics(**wishes: object) -> dict[str, int]:
    """What is played, named from the group on."""
    plan = make_plan(Wishes(**wishes), TOPICS, WHOLE, kinds=UPWARD)  # type: ignore[arg-type]
    return {topic.removeprefix("driftwell/v1/"): count for topic, count in plan.topics.items()}


def test_what_is_played() -> None:
    """What devices say, unless other kinds are named; only what is not empty."""
    assert topics() == {
        "plant/cam-1/samples": 5, "plant/cam-1/state": 2, "farm/cam-3/state": 1
    }  # fmt: skip
    assert topics(group="plant", kinds=("state", "head")) == {
        "plant/cam-1/state": 2, "plant/_/head/yard": 3
    }  # fmt: skip
    assert topics(devices=("cam-3",)) == {"farm/cam-3/state": 1}


def test_roles_and_groups_are_of_what_is_played() -> None:
    """A device that says nothing of what is played has no part, and no group."""
    plan = make_plan(Wishes(kinds=("samples", "head"), clones=2), TOPICS, WHOLE, kinds=UPWARD)

    assert plan.roles == {"cam-1": ("cam-1-001", "cam-1-002")}
    assert plan.groups == ["plant"]
    assert plan.changes_names
    assert not make_plan(Wishes(), TOPICS, WHOLE, kinds=UPWARD).changes_names


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        ("--device: no 'cam-9' here; there are: cam-1, cam-3", {"devices": ("cam-9",)}),
        ("--group: no 'x' here; there are: farm, plant", {"group": "x"}),
        ("--kinds: no 'pixels' here; there are: ack, blob,", {"kinds": ("pixels",)}),
        ("--kinds: no 'stream' here", {"kinds": ("stream",)}),
        ("nothing to replay: no such messages of kind event; there are:", {"kinds": ("event",)}),
        ("nothing to replay", {"devices": ("cam-3",), "group": "plant"}),
        ("--start 11 is outside of the recording: it runs from 0 to 10.000 s", {"start": "11"}),
        ("speed 'slow' is not understood", {"speed": "slow"}),
    ],
)
def test_wishes_that_cannot_be(text: str, wishes: dict[str, object]) -> None:
    """An error names the option, and what there is instead."""
    with pytest.raises(SettingsError, match=re.escape(text)):
        topics(**wishes)


def test_a_cloud_hears_other_kinds() -> None:
    """What is played by default is the target's to say."""
    plan = make_plan(Wishes(), TOPICS, WHOLE, kinds=(Kind.SAMPLES,))

    assert list(plan.topics.values()) == [5]
