"""The loops of a modular model: await, decide, await. Deciding is `keeper.py`'s."""

import asyncio
import sqlite3
import threading
from typing import Final

from driftwell.broker import Connection, Outcome
from driftwell.cloud.consumer import Consumer, log
from driftwell.cloud.loops import RETRY_S, publish
from driftwell.cloud.modular.keeper import ModuleKeeper
from driftwell.cloud.modular.refinement import Refinement
from driftwell.cloud.modular.refiner import Refiner
from driftwell.cloud.modular.serving import serve
from driftwell.cloud.modular.tables import StoredSubModel
from driftwell.messages.blob import CHUNK_BYTES, Blob, Fetch, Want
from driftwell.messages.codec import encode
from driftwell.messages.errors import (
    DriftwellError,
    InfeasibleBudgetError,
    TooLargeError,
    WireError,
)
from driftwell.messages.submodel import SubModel
from driftwell.messages.topics import Kind, device_topic

BLOB_BYTES: Final = 1024
"""What a blob takes beside its data, at most."""
LOOK_S: Final = 1.0
"""How often it is looked for devices whose wait is over."""
REFINE_LOOK_S: Final = 10.0
"""How often it is looked whether sub-models are to be refined."""


async def plan_loop(consumer: Consumer, keeper: ModuleKeeper, connection: Connection) -> None:
    """Derive sub-models for devices that need another one, one after the other."""
    while True:
        derivation = keeper.next_derivation()
        if derivation is None:
            await _wait_for_news(consumer)
            continue
        try:
            plan = await asyncio.to_thread(derivation.choose)
            derived = keeper.derived(derivation, plan)
        except InfeasibleBudgetError as error:
            keeper.infeasible(derivation, error)
            continue
        except sqlite3.OperationalError as error:
            log.error("submodel.not-booked", error=str(error), retry_s=RETRY_S)
            await asyncio.sleep(RETRY_S)
            continue
        if derived is not None:
            await publish_submodel(consumer, keeper, connection, derived)


async def submodel_loop(consumer: Consumer, keeper: ModuleKeeper, connection: Connection) -> None:
    """Publish each device's sub-model on every connection, for brokers forget."""
    epoch = 0
    while True:
        try:
            async with asyncio.timeout(RETRY_S):
                epoch = await connection.next_epoch(epoch)
            keeper.unpublished.update(one.device for one in keeper.registry.submodels())
        except TimeoutError:
            keeper.unpublished.update(keeper.expiring())
        for device in sorted(keeper.unpublished):
            try:
                stored = keeper.submodel(device)
            except sqlite3.OperationalError as error:
                log.error("submodel.not-booked", error=str(error), retry_s=RETRY_S)
                break
            if stored is None:
                keeper.unpublished.discard(device)
            elif not await publish_submodel(consumer, keeper, connection, stored):
                break


async def serve_loop(consumer: Consumer, keeper: ModuleKeeper, connection: Connection) -> None:
    """Send the pieces that devices ask for, a device at a time."""
    while True:
        if not keeper.requests:
            await _wait_for_news(consumer)
            continue
        device = next(iter(keeper.requests))
        fetch = keeper.requests[device]
        refused: list[WireError] = []
        for want in fetch.wants:
            try:
                is_sent = await _serve_one(consumer, keeper, connection, fetch, want)
            except WireError as error:
                refused.append(error)
                continue
            if not is_sent or keeper.requests.get(device) is not fetch:
                break
        if refused:
            keeper.refuse_fetch(fetch, refused)
        if keeper.requests.get(device) is fetch:
            del keeper.requests[device]


async def refine_loop(consumer: Consumer, refiner: Refiner) -> None:
    """Refine the fleet's sub-models whenever there are new ones, and they have settled."""
    stopping = threading.Event()
    clock = asyncio.get_running_loop().time
    try:
        while True:
            await asyncio.sleep(REFINE_LOOK_S)
            refinement = refiner.due(clock())
            if refinement is not None:
                await _refine(consumer, refiner, refinement, stopping)
    finally:
        stopping.set()  # a thread cannot be cancelled: it looks after each batch


async def _refine(
    consumer: Consumer, refiner: Refiner, refinement: Refinement, stopping: threading.Event
) -> None:
    def check() -> None:
        if stopping.is_set():
            raise InterruptedError

    clock = asyncio.get_running_loop().time
    log.info("modules.refining", devices=len(refinement.devices),
             batches=refiner.settings.training.batches)  # fmt: skip
    try:
        refined = await asyncio.to_thread(refinement.run, check)
    except (DriftwellError, MemoryError, RuntimeError, ValueError) as error:
        # Torch says by a RuntimeError that memory is short.
        consumer.counters["refinements-failed"] += 1
        log.error("modules.refining-failed", error=str(error), retry_s=refiner.failed(clock()))
        return
    while True:
        try:
            count = refiner.take(refinement, refined, clock())
            break
        except sqlite3.OperationalError as error:
            log.error("refinement.not-booked", error=str(error), retry_s=RETRY_S)
            await asyncio.sleep(RETRY_S)
    before, after = refined.losses
    consumer.counters["refinements" if count else "refinements-without-gain"] += 1
    log.info("modules.refined", modules=count, loss_before=round(before, 4),
             loss_after=round(after, 4))  # fmt: skip


async def publish_submodel(
    consumer: Consumer, keeper: ModuleKeeper, connection: Connection, stored: StoredSubModel
) -> bool:
    """Publish a device's sub-model; whether the broker answered.

    If not, it is published again (`submodel_loop`).
    """
    keeper.unpublished.add(stored.device)
    message = SubModel(
        device=stored.device,
        session=consumer.session,
        seq=consumer.next_seq("submodel"),
        clock_ns=consumer.wall_ns(),
        model=consumer.edge.digest,
        manifest=stored.manifest,
        signature=stored.signature,
        key=consumer.public_key,
    )
    topic = device_topic(consumer.settings.group, stored.device, Kind.SUBMODEL)
    try:
        payload = encode(message, limit_bytes=consumer.settings.message_limit_bytes)
    except TooLargeError as error:
        consumer.counters["submodels_too_large"] += 1
        log.error(
            "submodel.too-large",
            size_bytes=error.size_bytes,
            hint="raise message_limit_bytes here, on the devices and at the broker",
        )
        keeper.unpublished.discard(stored.device)
        return True
    if await publish(consumer, connection, topic, payload, Kind.SUBMODEL) is Outcome.SPOOLED:
        keeper.unpublished.add(stored.device)  # an older one may have been answered meanwhile
        return False
    keeper.unpublished.discard(stored.device)
    return True


async def _serve_one(
    consumer: Consumer, keeper: ModuleKeeper, connection: Connection, fetch: Fetch, want: Want
) -> bool:
    """Send one piece; False if the broker is gone, or the device has asked for something else.

    Raises:
        WireError: as `serve`.
    """
    topic = device_topic(consumer.settings.group, fetch.device, Kind.BLOB)
    chunk_bytes = min(CHUNK_BYTES, consumer.settings.message_limit_bytes - BLOB_BYTES)
    chunks = serve(keeper.catalogue, want, chunk_bytes=chunk_bytes)
    for base, content, size_bytes, offset, data in chunks:
        blob = Blob(
            device=fetch.device,
            session=consumer.session,
            seq=consumer.next_seq("blob"),
            clock_ns=consumer.wall_ns(),
            model=consumer.edge.digest,
            piece=want.piece,
            base=base,
            content=content,
            size_bytes=size_bytes,
            offset=offset,
            data=data,
        )
        payload = encode(blob, limit_bytes=consumer.settings.message_limit_bytes)
        outcome = await publish(consumer, connection, topic, payload, Kind.BLOB)
        if outcome is not Outcome.ACKED or keeper.requests.get(fetch.device) is not fetch:
            return False
        consumer.counters["blob-bytes"] += len(data)
    consumer.counters["pieces-served"] += 1
    return True


async def _wait_for_news(consumer: Consumer) -> None:
    try:
        async with asyncio.timeout(LOOK_S), consumer.changed:
            await consumer.changed.wait()
    except TimeoutError:
        pass
