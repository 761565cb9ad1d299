"""The loop of a device that trains: images gather, it learns, and tells what it learned."""

import asyncio
from typing import Final

from driftwell.broker import Outcome
from driftwell.edge.device import Device, log
from driftwell.edge.learning import Learned, Learner
from driftwell.edge.loops import wait_for_broker
from driftwell.messages.codec import encode
from driftwell.messages.errors import ArrayError, BundleError, TooLargeError
from driftwell.messages.topics import Kind, device_topic
from driftwell.messages.update import ModuleUpdate
from driftwell.models.modular.prior import log_prior

PATIENCE_S: Final = 60.0
"""For the broker; then what was learned is dropped: the next training begins with newer modules."""


async def learning_loop(device: Device, learner: Learner) -> None:
    """Learn whenever enough new labelled images have come; the device answers meanwhile."""
    seq = 0
    try:
        while True:
            async with device.changed:
                await device.changed.wait_for(lambda: learner.lessons.is_due)
            for learned in await _learn(device, learner):
                seq += 1
                if not await _tell(device, learned, seq):
                    break
    finally:
        learner.thread.shutdown(wait=False, cancel_futures=True)


async def _learn(device: Device, learner: Learner) -> list[Learned]:
    images, labels = learner.lessons.take()
    if device.settings.learning.class_prior:
        device.node.class_prior = log_prior(labels, len(device.node.bundle.manifest.classes))
    loop = asyncio.get_running_loop()
    try:
        learned = await loop.run_in_executor(learner.thread, learner.learn, images, labels)
    except (ArrayError, BundleError, MemoryError, RuntimeError) as error:
        # Torch says that memory is short by a RuntimeError.
        device.counters["trainings_failed"] += 1
        log.warning("learning.failed", error=str(error))
        return []
    device.counters["trainings"] += 1
    is_kept = learner.kept is not None and learner.modules.switch_own(*learner.kept)
    learner.kept = None
    log.info("learning.done", samples=len(labels), modules=len(learned), is_kept=is_kept)
    return learned


async def _tell(device: Device, learned: Learned, seq: int) -> bool:
    """Send what was learned of a module; whether it makes sense to send the others."""
    update = ModuleUpdate(
        device=device.settings.device,
        session=device.session,
        seq=seq,
        clock_ns=device.clocks.wall_ns(),
        model=device.model,
        module=learned.part.piece,
        base_version=learned.part.version,
        samples=learned.samples,
        importance=learned.importance,
        delta=learned.delta,
    )
    try:
        payload = encode(update, limit_bytes=device.settings.message_limit_bytes)
    except TooLargeError:
        device.counters["updates_too_large"] += 1
        return True
    topic = device_topic(device.settings.group, device.settings.device, Kind.UPDATE)
    while True:
        answer = await device.connection.publish(topic, payload, qos=1, retain=False)
        match answer.outcome:
            case Outcome.ACKED:
                device.counters["updates_sent"] += 1
                return True
            case Outcome.REFUSED:
                device.counters["updates_dropped"] += 1
                return True
            case Outcome.SPOOLED:
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        await wait_for_broker(device)
                except TimeoutError:
                    device.counters["updates_dropped"] += 1
                    return False
