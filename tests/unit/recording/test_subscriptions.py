import pytest

from driftwell.broker.filters import matches
from driftwell.messages.errors import SettingsError
from driftwell.messages.topics import Kind, cohort_head_topic, device_topic, own_head_topic
from driftwell.tools.subscriptions import group_filters, separate_filters


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in ("echo", "stream")])
def test_each_kind_is_selected_once(kind: Kind) -> None:
    """Whatever a device of the group says is delivered once."""
    topic = device_topic("home", "cam-1", kind)

    assert sum(matches(one, topic) for one in group_filters("home")) == 1


@pytest.mark.parametrize(
    ("topic", "times"),
    [
        (cohort_head_topic("home", "yard"), 1),
        (cohort_head_topic("home", "yard/1"), 1),
        (own_head_topic("home", "cam-1/9999"), 1),
        (cohort_head_topic("shed", "yard/1"), 0),
        (device_topic("home", "cam-1", Kind.ECHO), 0),
        (device_topic("shed", "cam-1", Kind.STATE), 0),
    ],
)
def test_other_topics_of_a_group(topic: str, times: int) -> None:
    """The head of a cohort or a domain is delivered once; echoes and other groups are not."""
    assert sum(matches(one, topic) for one in group_filters("home")) == times


def test_covered_filters_are_left_out() -> None:
    """A filter that another one covers would only deliver twice."""
    filters = ["a/b/c", "a/+/c", "a/+/c", "x/y/#", "x/y", "x/y/z/#", "x/y/+/w"]

    assert separate_filters(filters) == ("a/+/c", "x/y/#")


@pytest.mark.parametrize(
    "filters",
    [("a/+", "+/b"), ("a/#", "+/b"), ("a/+/c/#", "a/b/+"), ("+/x/#", "y/+"), ("a/+/c", "a/b/#")],
)
def test_overlapping_filters_are_refused(filters: tuple[str, str]) -> None:
    """Filters that meet in part are named, and the reason."""
    with pytest.raises(SettingsError, match="twice"):
        separate_filters(filters)


@pytest.mark.parametrize("filters", [("a/+", "b/+"), ("a/b", "a/b/c"), ("a/+/c", "a/+/d")])
def test_separate_filters_are_kept(filters: tuple[str, str]) -> None:
    """Filters that never meet are all kept."""
    assert separate_filters(filters) == filters


@pytest.mark.parametrize("wrong", ["", "a/#/b", "a/b+", "a#", "a\0b"])
def test_wrong_filters_are_refused(wrong: str) -> None:
    """What is no MQTT filter is refused before the broker is asked."""
    with pytest.raises(SettingsError, match="no MQTT filter"):
        separate_filters([wrong])
