"""Topics: built in one place, read back in one place."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import names

from driftwell.messages.errors import MalformedError, SettingsError
from driftwell.messages.topics import (
    ROUTES,
    TOPIC_LIMIT,
    Address,
    Direction,
    Kind,
    cohort_head_topic,
    device_topic,
    kind_filter,
    parse_topic,
)

FOREIGN = [
    "",
    "driftwell",
    "driftwell/v1",
    "driftwell/v1/",
    "driftwell/v1/g/d",
    "driftwell/v1/g/d/",
    "driftwell/v1/g/d/nothing",
    "driftwell/v1/g/d/state/",
    "driftwell/v1/g/d/state/more",
    "driftwell/v1/g//state",
    "driftwell/v1//d/state",
    "driftwell/v1/g/_/state",
    "driftwell/v1/g/_/head",
    "driftwell/v1/g/_/head/",
    "driftwell/v1/g/_/head/_",
    "driftwell/v1/g/d/head/c",
    "driftwell/v1/_/d/head",
    "driftwell/v2/g/d/state",
    "/driftwell/v1/g/d/state",
    "Driftwell/v1/g/d/state",
    "driftwell/v1/g/D/state",
    "driftwell/v1/g/d/STATE",
    "driftwell/v1/g/+/state",
    "driftwell/v1/#",
    "driftwell/v1/g/d/state\n",
    "driftwell/v1/g/\udcff/state",
    "driftwell/v1/g/" + "d" * 200 + "/state",
]


@given(names, names, st.sampled_from(Kind))
def test_a_device_topic_is_read_back(group: str, device: str, kind: Kind) -> None:
    """The topic of any device and kind parses to group, device and kind."""
    topic = device_topic(group, device, kind)

    assert Address(group, device, kind) == parse_topic(topic)


@given(names, names)
def test_a_cohort_topic_is_read_back(group: str, cohort: str) -> None:
    """The head topic of a cohort parses to no single device, and to the cohort."""
    topic = cohort_head_topic(group, cohort)

    assert Address(group, "_", Kind.HEAD, cohort) == parse_topic(topic)


@given(names, names, st.sampled_from(Kind))
def test_topics_fit_every_broker(group: str, device: str, kind: Kind) -> None:
    """Every topic is ASCII, within the limit, and has at most six slashes."""
    for topic in (device_topic(group, device, kind), cohort_head_topic(group, device)):
        assert len(topic.encode("ascii")) <= TOPIC_LIMIT
        assert topic.count("/") <= 6


@pytest.mark.parametrize("topic", FOREIGN)
def test_a_foreign_topic_is_malformed(topic: str) -> None:
    """A topic that no function here builds is refused."""
    with pytest.raises(MalformedError, match="not one of ours"):
        parse_topic(topic)


@given(st.text(string.ascii_lowercase + string.digits + "/_-+#", max_size=30))
def test_what_parses_is_what_was_built(rest: str) -> None:
    """A topic is refused, or it is exactly the one its address gives."""
    topic = f"driftwell/v1/{rest}"
    try:
        address = parse_topic(topic)
    except MalformedError:
        return
    built = (
        cohort_head_topic(address.group, address.cohort)
        if address.cohort
        else device_topic(address.group, address.device, address.kind)
    )

    assert topic == built


@pytest.mark.parametrize("name", ["", "_", "+", "#", "a/b", "A"])
def test_no_topic_is_built_from_a_bad_name(name: str) -> None:
    """A name that would widen a subscription or leave its level is refused."""
    with pytest.raises(SettingsError):
        device_topic(name, "device", Kind.STATE)
    with pytest.raises(SettingsError):
        device_topic("group", name, Kind.STATE)
    with pytest.raises(SettingsError):
        cohort_head_topic(name, "cohort")
    with pytest.raises(SettingsError):
        cohort_head_topic("group", name)
    with pytest.raises(SettingsError):
        kind_filter(name, Kind.STATE)


@given(names, names, st.sampled_from(Kind), st.sampled_from(Kind))
def test_a_filter_selects_its_kind_of_every_device(
    group: str, device: str, kind: Kind, other: Kind
) -> None:
    """A subscription's levels equal the topic's, but for one `+` where the device stands."""
    levels = device_topic(group, device, other).split("/")
    wanted = kind_filter(group, kind).split("/")

    matches = all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))

    assert matches == (kind is other)
    assert wanted.count("+") == 1


def test_every_kind_has_a_route() -> None:
    """No kind is without direction, QoS and retain flag."""
    assert set(Kind) == set(ROUTES)


def test_only_state_and_head_are_retained() -> None:
    """What the broker keeps is the two documents that a late joiner needs."""
    assert {Kind.STATE, Kind.HEAD} == {kind for kind, route in ROUTES.items() if route.retain}


def test_the_cloud_publishes_acks_and_heads_alone() -> None:
    """Everything else is published by devices, or by a program for itself."""
    down = {kind for kind, route in ROUTES.items() if route.direction is Direction.DOWN}

    assert {Kind.ACK, Kind.HEAD} == down
