"""From the bytes of a message to the decision of the consumer it concerns."""

from driftwell.cloud.consumer import Consumer
from driftwell.messages.ack import Ack
from driftwell.messages.codec import decode_on_topic
from driftwell.messages.errors import MalformedError, RefusalCode, WireError
from driftwell.messages.event import Event
from driftwell.messages.samples import SampleBatch
from driftwell.messages.state import State
from driftwell.messages.telemetry import Telemetry
from driftwell.messages.topics import Kind, parse_topic


def take_message(consumer: Consumer, topic: str, payload: bytes) -> Ack | None:
    """Decode a message and hand it to whom it concerns; the ack it is answered with, if any.

    Raises:
        sqlite3.OperationalError: if the disk does not take it.
    """
    try:
        _, message = decode_on_topic(
            topic, payload, limit_bytes=consumer.settings.message_limit_bytes
        )
    except WireError as error:
        return consumer.refuse(error, payload, device=_samples_device(topic))
    match message:
        case SampleBatch():
            return consumer.take_samples(message, payload)
        case State():
            consumer.take_state(message)
        case Telemetry():
            consumer.take_telemetry(message)
        case Event():
            consumer.counters[f"versions:{message.event}"] += 1
        case _:
            consumer.refuse(
                MalformedError("this cloud does not aggregate", RefusalCode.NOT_SUPPORTED),
                payload,
                device=None,
            )
    return None


def _samples_device(topic: str) -> str | None:
    try:
        address = parse_topic(topic)
    except WireError:
        return None
    return address.device if address.kind is Kind.SAMPLES else None
