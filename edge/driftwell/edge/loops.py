"""The edge daemon's loops: await, decide, await. Deciding is `device.py`'s."""

import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import Final, Literal

import psutil

from driftwell.broker import Delivery, Outcome
from driftwell.edge.device import Device, log
from driftwell.edge.pace import Pace
from driftwell.edge.predictions import Predictions
from driftwell.edge.reports import encode_telemetry, state_message
from driftwell.edge.resources import read_resources
from driftwell.edge.sinks import Sink
from driftwell.edge.sources import Source, SourceBatch
from driftwell.messages.ack import Ack
from driftwell.messages.blob import Blob
from driftwell.messages.codec import decode_on_topic, encode
from driftwell.messages.errors import TooLargeError, WireError
from driftwell.messages.head import Head
from driftwell.messages.submodel import SubModel
from driftwell.messages.topics import ROUTES, Kind, device_topic

RETRY_S: Final = 1.0
"""How long to wait before offering the broker something again that it did not take."""


async def infer_loop(device: Device, source: Source, sink: Sink, pace: Pace) -> bool:
    """Answer the stream to its end, which some streams do not have; then True.

    Cancelled in the forward pass, it leaves a batch that is answered again next time.
    """
    name = f"position:{device.settings.source}"
    stream = source.batches(device.spool.recall(name))
    async for batch in stream:
        began = device.clocks.monotonic_s()
        predictions = await asyncio.to_thread(
            device.node.infer, batch.images, rate=device.budget.rate
        )
        device.record(predictions, device.clocks.monotonic_s() - began)
        with device.busy():
            # The answers first: killed in between, they come twice and not never.
            _write_answers(device, sink, batch, predictions)
            device.keep_selected(batch, predictions, position_name=name)
            if device.learner is not None and batch.labels is not None:
                device.learner.lessons.add(batch.images, batch.labels)
        await device.announce()
        await pace.after_batch(device, len(batch.index))
    device.keep_rest()
    device.spool.forget(name)
    await device.announce()
    return True


def _write_answers(
    device: Device, sink: Sink, batch: SourceBatch, predictions: Predictions
) -> None:
    try:
        sink.write(batch, predictions)
    except OSError as error:  # a full disk, a reader that went away: the device goes on
        device.counters["answers_not_written"] += len(batch.index)
        log.warning("answers.not-written", error=str(error))


async def upload_loop(device: Device) -> None:
    """Send sample batches while there are any, and again those nobody acknowledged."""
    topic = device_topic(device.settings.group, device.settings.device, Kind.SAMPLES)
    while True:
        with device.busy():
            message = device.next_message()
        if message is None:
            await _wait_for_change(device, device.outbox.wait_s(device.clocks.monotonic_s()))
            continue
        entry, payload = message
        began = device.clocks.monotonic_s()
        answer = await device.connection.publish(topic, payload, qos=1, retain=False)
        match answer.outcome:
            case Outcome.ACKED:
                device.timing.publish_s.append(device.clocks.monotonic_s() - began)
            case Outcome.SPOOLED:
                device.outbox.not_sent(entry.id)
                await wait_for_broker(device)
            case Outcome.REFUSED:
                log.warning("samples.refused", reason=answer.reason)
                if not entry.is_doubtful:
                    device.give_up(entry, f"dropped:{answer.reason}")
                    await device.announce()


async def wait_for_broker(device: Device) -> None:
    """Wait until it makes sense to offer the broker again what it did not take."""
    if device.connection.is_connected:
        await asyncio.sleep(RETRY_S)
    else:
        await device.connection.next_epoch(device.connection.epoch)


async def _wait_for_change(device: Device, timeout_s: float | None) -> None:
    try:
        async with asyncio.timeout(timeout_s), device.changed:
            await device.changed.wait()
    except TimeoutError:
        pass


async def listen_loop(device: Device) -> None:
    """Take acks, heads, sub-models and pieces; what is malformed is counted and left behind."""
    async for delivery in device.connection.deliveries():
        with device.busy():
            _take(device, delivery)
            delivery.acknowledge()
        await device.announce()


def _take(device: Device, delivery: Delivery) -> None:
    try:
        _, message = decode_on_topic(
            delivery.topic, delivery.payload, limit_bytes=device.settings.message_limit_bytes
        )
    except WireError as error:
        device.refusals.note("version", 0, error)
        return
    if isinstance(message, Ack):
        device.take_ack(message)
    elif isinstance(message, Head):
        device.heads.take(message, delivery.payload)
    elif isinstance(message, SubModel) and device.modules is not None:
        device.modules.take_submodel(message, delivery.payload)
    elif isinstance(message, Blob) and device.modules is not None:
        device.modules.take_blob(message)


async def birth_loop(device: Device) -> None:
    """Publish the birth document on every connection, and offer again what was in flight."""
    epoch = 0
    while True:
        epoch = await device.connection.next_epoch(epoch)
        device.outbox.connection_lost()
        if device.modules is not None:
            device.modules.supply.fetching.ask_anew()
        await publish_state(device, "ready")
        await device.announce()


async def publish_state(device: Device, status: Literal["ready", "stopped"]) -> bool:
    """Publish `ready` or `stopped`; whether the broker took it."""
    route = ROUTES[Kind.STATE]
    answer = await device.connection.publish(
        device_topic(device.settings.group, device.settings.device, Kind.STATE),
        encode(state_message(device, status)),
        qos=route.qos,
        retain=route.retain,
    )
    return answer.outcome is Outcome.ACKED


async def report_loop(device: Device) -> None:
    """Tell the cloud what became of versions; a report waits for the connection."""
    topic = device_topic(device.settings.group, device.settings.device, Kind.EVENT)
    while True:
        async with device.changed:
            await device.changed.wait_for(lambda: len(device.reports) > 0)
        report = device.reports[0]
        answer = await device.connection.publish(topic, encode(report), qos=1, retain=False)
        if answer.outcome is Outcome.SPOOLED:
            await wait_for_broker(device)
        elif device.reports and device.reports[0] is report:
            device.reports.popleft()


async def answer_loop(device: Device) -> None:
    """Publish predictions, where they are wanted on the network; QoS 0, none is repeated."""
    while True:
        async with device.changed:
            await device.changed.wait_for(lambda: len(device.answers) > 0)
        await publish_answers(device)


async def publish_answers(device: Device) -> None:
    """Publish the predictions that are queued."""
    topic = device_topic(device.settings.group, device.settings.device, Kind.PREDICTIONS)
    while device.answers:
        await device.connection.publish(topic, device.answers.popleft(), qos=0, retain=False)


async def telemetry_loop(device: Device, folder: Path) -> None:
    """Publish a reading of the machine now and then, and when one is wanted."""
    topic = device_topic(device.settings.group, device.settings.device, Kind.TELEMETRY)
    read = partial(read_resources, psutil.Process(), folder)
    seq = 0
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(device.settings.telemetry_every_s):
                await device.reading_wanted.wait()
        device.reading_wanted.clear()
        seq += 1
        books = device.spool.books()
        log.info(
            "edge.progress",
            seen=books.get("seen", 0),
            selected=books.get("selected", 0),
            spooled=books["spooled"],
            version=device.node.incumbent.version,
        )
        resources = await asyncio.to_thread(read)
        try:
            payload = encode_telemetry(device, resources, seq)
        except TooLargeError as error:
            log.warning("telemetry.too-large", size_bytes=error.size_bytes)
            continue
        await device.connection.publish(topic, payload, qos=0, retain=False)
