"""The cloud consumer's loops: await, decide, await. Deciding is `consumer.py`'s."""

import asyncio
import sqlite3
from collections.abc import Iterator
from itertools import chain
from typing import Final

from driftwell.broker import Connection, Outcome
from driftwell.cloud.beginnings import begin_cohorts
from driftwell.cloud.consumer import Consumer, log
from driftwell.cloud.heads import encode_head, readers
from driftwell.cloud.intake import take_message
from driftwell.cloud.reverting import carry_out_reverts
from driftwell.cloud.tables import StoredVersion
from driftwell.messages.ack import Ack
from driftwell.messages.codec import encode
from driftwell.messages.errors import TooLargeError
from driftwell.messages.topics import (
    ROUTES,
    Kind,
    device_topic,
)

RETRY_S: Final = 5.0
"""How long to wait before a step is tried again that the disk would not take, or a head."""
RENEWAL_NS: Final = 3600 * 10**9
"""How often to look for versions half of whose time is over."""
LOOK_S: Final = 1.0
"""How often to look whether somebody asked for a revert."""


async def consume_loop(consumer: Consumer, connection: Connection) -> None:
    """Take every delivery; it is acknowledged to the broker after it is stored."""
    async for delivery in connection.deliveries():
        try:
            ack = take_message(consumer, delivery.topic, delivery.payload)
        except sqlite3.OperationalError as error:
            # A full disk, most likely. No ack of ours: the device keeps its batch and offers
            # it again.
            consumer.counters["not-stored"] += 1
            log.error("ledger.not-stored", error=str(error))
            ack = None
        delivery.acknowledge()
        if ack is not None:
            await publish_ack(consumer, connection, ack)
        await consumer.announce()


async def learn_loop(consumer: Consumer, connection: Connection) -> None:
    """Run reverts and steps while there are any; then tell the devices that all is settled."""
    while True:
        try:
            for version in chain(carry_out_reverts(consumer), begin_cohorts(consumer)):
                await publish_version(consumer, connection, version)
            work = consumer.next_work()
        except sqlite3.OperationalError as error:
            await _wait_for_disk(error)
            continue
        if work is not None:
            step = await asyncio.to_thread(
                consumer.learner.step,
                work.cohort.models,
                work.uploads,
                work.replay,
                work.generator,
            )
            try:
                made = consumer.commit(work, step)
            except sqlite3.OperationalError as error:
                await _wait_for_disk(error)
                continue
            if made is not None:
                log.info(
                    "version.made",
                    cohort=made.cohort,
                    version=made.version,
                    foundation_loss=round(step.foundation_loss, 4),
                    distillation_loss=round(step.distillation_loss, 4),
                )
                await publish_version(consumer, connection, made)
            continue
        await _settle(consumer, connection)
        async with consumer.changed:
            await consumer.changed.wait_for(lambda: consumer.has_work)


async def revert_loop(consumer: Consumer) -> None:
    """Look for reverts that were asked for, and wake the learning loop: it carries them out."""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            consumer.is_revert_waiting = consumer.ledger.next_revert() is not None
        except sqlite3.OperationalError as error:
            log.error("ledger.not-read", error=str(error))
        if consumer.is_revert_waiting:
            await consumer.announce()


async def _wait_for_disk(error: sqlite3.OperationalError) -> None:
    log.error("ledger.not-committed", error=str(error), retry_s=RETRY_S)
    await asyncio.sleep(RETRY_S)


async def _settle(consumer: Consumer, connection: Connection) -> None:
    for device, session in consumer.settlement.waiting:
        if consumer.is_done_with(device, session):
            await publish_ack(consumer, connection, consumer.settle(device, session))


async def head_loop(consumer: Consumer, connection: Connection) -> None:
    """Publish the newest version of each cohort on every connection, for brokers forget.

    Between connections it publishes again what a connected broker did not answer for.
    """
    epoch, renewed_ns = 0, consumer.wall_ns()
    while True:
        try:
            async with asyncio.timeout(RETRY_S):
                epoch = await connection.next_epoch(epoch)
            log.info("cloud.connected", epoch=epoch)  # from here on nothing sent to it is lost
            consumer.unpublished.update(consumer.cohorts)
        except TimeoutError:
            pass
        if consumer.wall_ns() - renewed_ns > RENEWAL_NS:
            renewed_ns = consumer.wall_ns()
            consumer.unpublished.update(_expiring(consumer))
        for cohort in [name for name in consumer.cohorts if name in consumer.unpublished]:
            # Read one by one: while a head is under way a step or a revert may make a newer one.
            version = consumer.ledger.version(cohort, consumer.cohorts[cohort].version)
            if version is None:
                consumer.unpublished.discard(cohort)
            else:
                await publish_version(consumer, connection, _renewed(consumer, version))


def _expiring(consumer: Consumer) -> Iterator[str]:
    """Cohorts whose newest version is signed anew now: the broker has it as it was."""
    for cohort in list(consumer.cohorts):
        version = consumer.ledger.version(cohort, consumer.cohorts[cohort].version)
        if version is not None and _renewed(consumer, version) is not version:
            yield cohort


def _renewed(consumer: Consumer, version: StoredVersion) -> StoredVersion:
    """A version, signed anew if half of its time is over and the disk takes it."""
    try:
        return consumer.issuer.renewed(version)
    except sqlite3.OperationalError as error:
        log.error("version.not-renewed", cohort=version.cohort, error=str(error))
        return version


async def publish_version(
    consumer: Consumer, connection: Connection, version: StoredVersion
) -> None:
    """Publish a version's head to whom it is for, unless there is a newer one.

    Without an answer it is published again: `head_loop`.
    """
    consumer.unpublished.add(version.cohort)
    for reader in readers(consumer, version):
        if consumer.cohorts[version.cohort].version > version.version:
            return
        try:
            topic, payload = encode_head(consumer, version, reader=reader)
        except TooLargeError as error:
            consumer.counters["heads_too_large"] += 1
            log.error(
                "version.too-large",
                size_bytes=error.size_bytes,
                hint="raise message_limit_bytes here, on the devices and at the broker",
            )
            break
        outcome = await publish(consumer, connection, topic, payload, Kind.HEAD)
        if outcome is Outcome.SPOOLED:
            return
    consumer.unpublished.discard(version.cohort)


async def publish_ack(consumer: Consumer, connection: Connection, ack: Ack) -> None:
    """Publish an ack; if it is lost, the device offers its batch again and gets another."""
    topic = device_topic(consumer.settings.group, ack.device, Kind.ACK)
    await publish(consumer, connection, topic, encode(ack), Kind.ACK)


async def publish(
    consumer: Consumer, connection: Connection, topic: str, payload: bytes, kind: Kind
) -> Outcome:
    """Publish a message as its kind travels; what the broker refuses is counted."""
    route = ROUTES[kind]
    answer = await connection.publish(topic, payload, qos=route.qos, retain=route.retain)
    if answer.outcome is Outcome.REFUSED:
        consumer.counters[f"publish-refused:{answer.reason}"] += 1
        log.error("publish.refused", topic=topic, reason=answer.reason)
    return answer.outcome
