"""Which topics a subscription selects, against a second implementation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from driftwell.broker.filters import matches

LEVEL = st.sampled_from(["", "a", "b", "$SYS"])
TOPIC = st.lists(LEVEL, min_size=1, max_size=5).map("/".join).filter(bool)
FILTER = st.builds(
    lambda levels, rest: "/".join(levels + rest),
    st.lists(LEVEL | st.just("+"), min_size=1, max_size=5),
    st.sampled_from([[], ["#"]]),
).filter(bool)


@given(topic_filter=FILTER, topic=TOPIC)
def test_it_agrees_with_paho(topic_filter: str, topic: str) -> None:
    """On every valid filter and topic of few levels."""
    assert matches(topic_filter, topic) == topic_matches_sub(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("home/+/head", "home/camera-1/head", True),
        ("home/+/head", "home/camera-1/x/head", False),
        ("home/#", "home", True),
        ("home/#", "home/camera-1/head", True),
        ("home/#", "house", False),
        ("+", "", True),
        ("+/+", "/a", True),
        ("#", "$SYS/broker", False),
        ("$SYS/#", "$SYS/broker", True),
    ],
)
def test_what_the_standard_says(topic_filter: str, topic: str, *, expected: bool) -> None:
    """The examples of section 4.7."""
    assert matches(topic_filter, topic) is expected
