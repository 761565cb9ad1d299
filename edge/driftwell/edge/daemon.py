"""The edge program: builds the device, runs its loops in one TaskGroup, ends in good order.

Order of the end: the stream stops, the spool drains (as long as there is progress), the
state `stopped` is published, the connection closes. What did not drain stays on disk.
"""

import asyncio
import contextlib
import importlib.metadata
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import structlog
import torch

from driftwell.broker import Connection, Will
from driftwell.edge.assembly import build_node, open_model
from driftwell.edge.device import Device
from driftwell.edge.learning_loop import learning_loop
from driftwell.edge.loops import (
    answer_loop,
    birth_loop,
    infer_loop,
    listen_loop,
    publish_answers,
    publish_state,
    report_loop,
    telemetry_loop,
    upload_loop,
)
from driftwell.edge.model import Model
from driftwell.edge.module_loops import fetch_loop, limits_loop, submodel_loop
from driftwell.edge.pace import parse_pace
from driftwell.edge.reports import will_message
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sinks import Sink, open_sink
from driftwell.edge.sources import Source, open_source
from driftwell.edge.spool import Spool
from driftwell.edge.stream_recorder import StreamRecorder
from driftwell.edge.subnetwork import ModularModel
from driftwell.edge.timing import Clocks
from driftwell.messages.codec import encode
from driftwell.messages.topics import (
    ROUTES,
    Kind,
    cohort_head_topic,
    device_topic,
    domain_heads,
    own_head_topic,
)
from driftwell.models.state_folder import own_folder

DRAIN_PATIENCE_S = 60.0
"""How long the end of a stream waits for the cloud without any progress."""

log = structlog.get_logger()

Connect = Callable[[tuple[tuple[str, int], ...], Will], Connection]
"""Makes the device's connection from its subscriptions and its will."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One run of an edge daemon, as it ended."""

    finished: bool
    """The stream came to its end."""
    drained: bool
    """Everything selected was settled by the cloud."""
    books: dict[str, int]
    counters: dict[str, int]
    bytes_up: int
    bytes_down: int
    batches: int
    forward_ms: float
    """Mean per batch."""
    other_ms: float
    """Mean per batch: everything but the forward pass, waiting not counted."""
    lag_s_p50: float | None
    stream_s: float
    """From the beginning of the stream until the cloud was done with it, waiting counted."""


def subscriptions(
    settings: EdgeSettings, *, has_modules: bool = False
) -> tuple[tuple[str, int], ...]:
    """What a device listens to: its acks, and its own head or its cohort's, domains and all.

    One whose bundle is modular also listens to its sub-models and their pieces.
    """
    head = (
        cohort_head_topic(settings.group, settings.cohort_name)
        if settings.cohort_name != settings.device
        else own_head_topic(settings.group, settings.device)
    )
    heads = (head, domain_heads(head)) if settings.watches_drift else (head,)
    kinds = (Kind.ACK, Kind.SUBMODEL, Kind.BLOB) if has_modules else (Kind.ACK,)
    own = (device_topic(settings.group, settings.device, kind) for kind in kinds)
    return tuple((one, 1) for one in (*own, *heads))


async def run_edge(
    settings: EdgeSettings,
    *,
    connect: Connect,
    session: str,
    clocks: Clocks,
    stopping: asyncio.Event,
    source: Source | None = None,
    sink: Sink | None = None,
    started: Callable[[Device], None] = lambda _: None,
) -> Summary:
    """Run one edge daemon until its stream ends or `stopping` is set.

    Args:
        settings: Everything it was told; `state_dir` must be set.
        connect: Makes its connection.
        session: 16 hexadecimal digits, drawn anew for each run.
        clocks: Its clocks.
        stopping: Set it to end the run in good order.
        source: In place of the one `settings.source` names.
        sink: In place of the one `settings.predictions` names.
        started: Called once with the device, before its loops run.

    Raises:
        DriftwellError: what is wrong with bundle, source, folder or broker.
    """
    if settings.state_dir is None:
        raise ValueError("state_dir must be set")
    pace = parse_pace(settings.pace)
    torch.set_num_threads(settings.threads)
    bundle = open_model(settings.bundle)
    source = source or open_source(
        settings.source, shape=bundle.manifest.input.shape, batch=settings.batch
    )
    with (
        own_folder(settings.state_dir) as folder,
        contextlib.closing(Spool(folder, settings.device)) as spool,
    ):
        device = _build_device(settings, bundle, spool, connect, session, clocks)
        if device.node.may_mistake_versions_for_drift:
            log.warning(
                "drift.unreliable",
                reason="versions may change what lies in front of the first BatchNorm",
                hint="--adaptable normalisation keeps it, or do without [drift]",
            )
        device.restore()
        started(device)
        sink = sink or open_sink(
            settings.predictions,
            bundle.manifest.classes,
            resumed=spool.recall(f"position:{settings.source}") is not None,
            queue=device.answers,
            limit_bytes=settings.message_limit_bytes,
        )
        if settings.record is not None:
            sink = StreamRecorder(
                sink,
                settings,
                path=settings.record,
                model=bundle.digest,
                session=session,
                wall_ns=clocks.wall_ns,
                monotonic_s=clocks.monotonic_s,
            )
        with contextlib.closing(sink):
            finished, drained, stream_s = False, False, 0.0
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(loop, name=f"{settings.device}:{name}")
                    for name, loop in {
                        "connection": device.connection.run(),
                        "birth": birth_loop(device),
                        "listen": listen_loop(device),
                        "upload": upload_loop(device),
                        "report": report_loop(device),
                        "answers": answer_loop(device),
                        "telemetry": telemetry_loop(device, folder),
                        **_module_loops(device),
                    }.items()
                ]
                began_s = clocks.monotonic_s()
                answering = group.create_task(infer_loop(device, source, sink, pace))
                finished = await _unless_stopped(answering, stopping)
                device.keep_rest()
                await device.announce()
                drained = await _unless_stopped(group.create_task(_drain(device)), stopping)
                stream_s = clocks.monotonic_s() - began_s
                await _say_goodbye(device)
                for task in tasks:
                    task.cancel()
        return _summary(device, finished=finished, drained=drained, stream_s=stream_s)


def _build_device(
    settings: EdgeSettings,
    bundle: Model,
    spool: Spool,
    connect: Connect,
    session: str,
    clocks: Clocks,
) -> Device:
    route = ROUTES[Kind.STATE]
    last_words = will_message(
        settings, session=session, model=bundle.digest, source=bundle.manifest.source_digest
    )
    will = Will(
        device_topic(settings.group, settings.device, Kind.STATE),
        encode(last_words),
        qos=route.qos,
        retain=route.retain,
    )
    return Device(
        settings,
        node=build_node(settings, bundle, clocks.monotonic_s),
        spool=spool,
        connection=connect(
            subscriptions(settings, has_modules=isinstance(bundle, ModularModel)), will
        ),
        session=session,
        clocks=clocks,
        memory_bytes=psutil.virtual_memory().total,
        software=f"driftwell {importlib.metadata.version('driftwell')}",
    )


def _module_loops(device: Device) -> dict[str, Coroutine[Any, Any, None]]:
    modules = device.modules
    if modules is None:
        return {}
    loops = {
        "fetch": fetch_loop(device, modules),
        "submodel": submodel_loop(device, modules),
        "limits": limits_loop(device, modules),
    }
    if device.learner is not None:
        loops["learning"] = learning_loop(device, device.learner)
    return loops


async def _unless_stopped(task: asyncio.Task[bool], stopping: asyncio.Event) -> bool:
    """The task's result, or False if it was cancelled because `stopping` came first."""
    stop = asyncio.Task(stopping.wait(), name="stopping")
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task})
    return False


async def _drain(device: Device) -> bool:
    """Wait until the cloud is done with everything; give up when nothing moves any more."""
    while not device.has_caught_up:
        held = len(device.outbox)

        def has_moved(held: int = held) -> bool:
            return device.has_caught_up or len(device.outbox) < held

        try:
            async with asyncio.timeout(DRAIN_PATIENCE_S), device.changed:
                await device.changed.wait_for(has_moved)
        except TimeoutError:
            log.warning("spool.not-drained", batches=len(device.outbox))
            break
    return device.has_caught_up


async def _say_goodbye(device: Device) -> None:
    await publish_answers(device)
    if not await publish_state(device, "stopped"):
        log.warning("edge.goodbye-not-delivered")


def _summary(device: Device, *, finished: bool, drained: bool, stream_s: float) -> Summary:
    timing, traffic = device.timing, device.connection.traffic
    batches = max(1, timing.batches)
    return Summary(
        finished=finished,
        drained=drained,
        books=device.spool.books(),
        counters=dict(device.counters),
        bytes_up=traffic.bytes_up,
        bytes_down=traffic.bytes_down,
        batches=timing.batches,
        forward_ms=1e3 * timing.forward_s / batches,
        other_ms=1e3 * timing.other_s / batches,
        lag_s_p50=float(np.median(timing.lag_s)) if timing.lag_s else None,
        stream_s=stream_s,
    )
