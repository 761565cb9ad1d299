"""Topics: built in one place, read back in one place."""

import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import cohort_names, domains, names

from driftwell.messages.errors import MalformedError, SettingsError
from driftwell.messages.names import EVERYONE, domain_name, split_domain
from driftwell.messages.topics import (
    ROUTES,
    TOPIC_LIMIT,
    Address,
    Direction,
    Kind,
    cohort_head_topic,
    device_topic,
    domain_heads,
    kind_filter,
    own_head_topic,
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
    "driftwell/v1/g/d/head/",
    "driftwell/v1/g/d/head/0",
    "driftwell/v1/g/d/head/01",
    "driftwell/v1/g/d/head/-1",
    "driftwell/v1/g/d/head/+",
    "driftwell/v1/g/d/head/1\n",
    "driftwell/v1/g/d/head/\u0661",
    "driftwell/v1/g/d/head/10000",
    "driftwell/v1/g/d/head/1/2",
    "driftwell/v1/g/d/head/yard/1",
    "driftwell/v1/g/d/ack/1",
    "driftwell/v1/g/_/head/yard/",
    "driftwell/v1/g/_/head/yard/0",
    "driftwell/v1/g/_/head/yard/01",
    "driftwell/v1/g/_/head/yard/+",
    "driftwell/v1/g/_/head/yard/b",
    "driftwell/v1/g/_/head/yard/10000",
    "driftwell/v1/g/_/head/yard/1/2",
    "driftwell/v1/g/_/head/_/1",
    "driftwell/v1/g/_/head/" + "c" * 49 + "/1",
    "driftwell/v1/_/d/head/1",
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


@given(names, names, domains)
def test_the_head_of_a_domain_is_read_back(group: str, name: str, domain: int) -> None:
    """A domain of a cohort parses to its name; one of a device's own also to the device."""
    of_domain = domain_name(name, domain)

    shared = parse_topic(cohort_head_topic(group, of_domain))
    own = parse_topic(own_head_topic(group, of_domain))

    assert shared == Address(group, "_", Kind.HEAD, of_domain)
    assert own == Address(group, name, Kind.HEAD, of_domain if domain else "")


@given(names, names)
def test_the_first_domain_has_the_head_of_before(group: str, name: str) -> None:
    """Who knows of no domains listens to the head of domain 0."""
    assert own_head_topic(group, name) == device_topic(group, name, Kind.HEAD)


@pytest.mark.parametrize("build", [cohort_head_topic, own_head_topic])
@given(group=names, name=names, other=cohort_names, domain=domains)
def test_a_device_hears_of_its_domains_alone(
    build: Callable[[str, str], str], group: str, name: str, other: str, domain: int
) -> None:
    """A head topic and its subscription select each domain once, and no other cohort's."""
    head = build(group, name)
    wanted = [head.split("/"), domain_heads(head).split("/")]

    def times(topic: str) -> int:
        levels = topic.split("/")
        return sum(
            len(one) == len(levels)
            and all(want in ("+", level) for want, level in zip(one, levels, strict=True))
            for one in wanted
        )

    assert times(build(group, domain_name(name, domain))) == 1
    assert times(build(group, other)) == (split_domain(other)[0] == name)


@given(names, cohort_names, st.sampled_from(Kind))
def test_topics_fit_every_broker(group: str, name: str, kind: Kind) -> None:
    """Every topic is ASCII, within the limit, and has at most six slashes."""
    device, _ = split_domain(name)
    for topic in (
        device_topic(group, device, kind),
        cohort_head_topic(group, name),
        own_head_topic(group, name),
    ):
        assert len(topic.encode("ascii")) <= TOPIC_LIMIT
        assert topic.count("/") <= 6


@pytest.mark.parametrize("topic", FOREIGN)
def test_a_foreign_topic_is_malformed(topic: str) -> None:
    """A topic that no function here builds is refused."""
    with pytest.raises(MalformedError, match="not one of ours"):
        parse_topic(topic)


@given(
    st.text(string.ascii_lowercase + string.digits + "/_-+#", max_size=30)
    | st.from_regex(r"[ab_]/[ab_]/head(/[ab_]?[0-9]{0,5}){0,2}", fullmatch=True)
)
def test_what_parses_is_what_was_built(rest: str) -> None:
    """A topic is refused, or it is exactly the one its address gives."""
    topic = f"driftwell/v1/{rest}"
    try:
        address = parse_topic(topic)
    except MalformedError:
        return
    if address.device == EVERYONE:
        built = cohort_head_topic(address.group, address.cohort)
    elif address.cohort:
        built = own_head_topic(address.group, address.cohort)
        assert split_domain(address.cohort)[0] == address.device
    else:
        built = device_topic(address.group, address.device, address.kind)

    assert topic == built


@pytest.mark.parametrize("name", ["", "_", "+", "#", "a/b", "a/", "a/1/2", "A"])
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
        own_head_topic(name, "device")
    with pytest.raises(SettingsError):
        own_head_topic("group", name)
    with pytest.raises(SettingsError):
        kind_filter(name, Kind.STATE)


@pytest.mark.parametrize("name", ["a/0", "a/01", "a/10000", "a/+", "a/1_0", "a/ 1", "a/1\n"])
def test_no_topic_is_built_from_a_bad_number(name: str) -> None:
    """A number that would not be read back is refused."""
    with pytest.raises(SettingsError, match=r"cohort .* of a domain"):
        cohort_head_topic("group", name)
    with pytest.raises(SettingsError, match=r"device .* of a domain"):
        own_head_topic("group", name)


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


def test_only_documents_are_retained() -> None:
    """What the broker keeps is the three documents that a late joiner needs."""
    assert {Kind.STATE, Kind.HEAD, Kind.SUBMODEL} == {
        kind for kind, route in ROUTES.items() if route.retain
    }


def test_the_cloud_publishes_answers_heads_and_pieces_alone() -> None:
    """Everything else is published by devices, or by a program for itself."""
    down = {kind for kind, route in ROUTES.items() if route.direction is Direction.DOWN}

    assert {Kind.ACK, Kind.HEAD, Kind.SUBMODEL, Kind.BLOB} == down
