"""The size of a PUBLISH packet, against a second implementation that writes one."""

from amqtt.mqtt.publish import PublishPacket
from hypothesis import example, given
from hypothesis import strategies as st

from driftwell.broker import publish_packet_size


@given(
    # A topic that is published to has no wildcard in it (MQTT 3.1.1, 3.3.2.1).
    topic=st.text(st.characters(codec="utf-8", exclude_characters="#+"), min_size=1, max_size=200),
    size=st.integers(0, 20_000),
    qos=st.sampled_from([0, 1]),
)
# Where the remaining length takes one byte more: 127, 16383 and 2097151.
@example(topic="abc", size=122, qos=0)
@example(topic="abc", size=123, qos=0)
@example(topic="abc", size=16_376, qos=1)
@example(topic="abc", size=16_377, qos=1)
@example(topic="abc", size=2_097_146, qos=0)
@example(topic="abc", size=2_097_147, qos=0)
def test_it_is_the_length_of_the_packet(topic: str, size: int, qos: int) -> None:
    """Header, topic, packet number and payload."""
    packet = PublishPacket.build(topic, bytes(size), 1 if qos else None, False, qos, False)

    assert publish_packet_size(topic, bytes(size), qos) == len(packet.to_bytes())
