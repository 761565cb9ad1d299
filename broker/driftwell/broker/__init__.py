"""The transport: one port, its MQTT adapter, an in-memory fake, an embedded broker."""

from driftwell.broker.connection import (
    Connection,
    Delivery,
    Outcome,
    Publication,
    Traffic,
    Will,
    publish_packet_size,
)
from driftwell.broker.settings import BrokerSettings, parse_broker_url

__all__ = [
    "BrokerSettings",
    "Connection",
    "Delivery",
    "Outcome",
    "Publication",
    "Traffic",
    "Will",
    "parse_broker_url",
    "publish_packet_size",
]
