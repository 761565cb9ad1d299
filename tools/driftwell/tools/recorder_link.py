"""The recorder's MQTT connection: its clock and randomness are chosen here.

Not in `programs`, which needs torch: a machine that only records has none.
"""

import random
import time

from driftwell.broker import Connection, parse_broker_url
from driftwell.broker.backoff import Backoff
from driftwell.broker.mqtt import MqttConnection
from driftwell.messages.topics import Kind, device_topic


def connect_recorder(
    broker: str, group: str, subscriptions: tuple[str, ...], *, name: str
) -> Connection:
    """A recorder's MQTT connection; its session is clean, so that a dead one leaves no queue.

    Args:
        broker: URL of the broker.
        group: Whose echo it may use.
        subscriptions: Filters, of which no two select the same topic.
        name: What tells it apart from other recorders.
    """
    return MqttConnection(
        settings=parse_broker_url(broker),
        client_id=f"driftwell/{group}/_recorder-{name}",
        subscriptions=tuple((topic_filter, 1) for topic_filter in subscriptions),
        will=None,
        clean=True,
        echo_topic=device_topic(group, "recorder", Kind.ECHO),
        backoff=Backoff(),
        uniform=random.uniform,
        clock=time.monotonic,
    )
