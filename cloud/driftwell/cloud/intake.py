"""From the bytes of a message to the decision of the consumer it concerns."""

from driftwell.cloud.consumer import Consumer
from driftwell.cloud.modular.keeper import ModuleKeeper
from driftwell.messages.ack import Ack
from driftwell.messages.blob import Fetch
from driftwell.messages.codec import Message, decode_on_topic
from driftwell.messages.errors import MalformedError, RefusalCode, WireError
from driftwell.messages.event import Event
from driftwell.messages.samples import SampleBatch
from driftwell.messages.state import State
from driftwell.messages.telemetry import Telemetry
from driftwell.messages.topics import Kind, parse_topic
from driftwell.messages.update import ModuleUpdate


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
    if isinstance(message, SampleBatch):
        return consumer.take_samples(message, payload)
    if isinstance(message, Event):
        consumer.counters[f"versions:{message.event}"] += 1
    elif isinstance(message, State):
        consumer.take_state(message)
    elif isinstance(message, Telemetry):
        consumer.take_telemetry(message)
    elif not isinstance(message, Fetch | ModuleUpdate) or consumer.keeper is None:
        foreign = MalformedError("not for this cloud, or its model", RefusalCode.NOT_SUPPORTED)
        consumer.refuse(foreign, payload, device=None)
    if consumer.keeper is not None:
        _take_modular(consumer.keeper, message, payload)
    return None


def _take_modular(keeper: ModuleKeeper, message: Message, payload: bytes) -> None:
    if isinstance(message, State):
        keeper.take_state(message)
    elif isinstance(message, Telemetry):
        keeper.take_telemetry(message, payload)
    elif isinstance(message, Fetch):
        keeper.take_fetch(message)
    elif isinstance(message, ModuleUpdate):
        keeper.take_update(message, payload)


def _samples_device(topic: str) -> str | None:
    try:
        address = parse_topic(topic)
    except WireError:
        return None
    return address.device if address.kind is Kind.SAMPLES else None
