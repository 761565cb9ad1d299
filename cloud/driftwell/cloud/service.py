"""The cloud program: builds the consumer, runs its loops in one TaskGroup, ends in good order.

Order of the end: the running step finishes or is forgotten (it is booked only when done),
the connection closes, the ledger closes. Nothing needs flushing: every commit is on disk.
"""

import asyncio
import os
from collections.abc import Callable

import structlog
import torch

from driftwell.broker import Connection
from driftwell.cloud.assembly import open_consumer
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.loops import consume_loop, head_loop, learn_loop, revert_loop
from driftwell.cloud.modular.loops import plan_loop, refine_loop, serve_loop, submodel_loop
from driftwell.cloud.modular.refining import Labelled
from driftwell.cloud.settings import CloudSettings
from driftwell.messages.topics import Kind, kind_filter
from driftwell.models.bundle import open_bundle

log = structlog.get_logger()

Connect = Callable[[tuple[tuple[str, int], ...]], Connection]
"""Makes the consumer's connection from its subscriptions."""


def subscriptions(settings: CloudSettings) -> tuple[tuple[str, int], ...]:
    """What the cloud listens to: everything that goes up but predictions."""
    kinds = (Kind.STATE, Kind.TELEMETRY, Kind.SAMPLES, Kind.UPDATE, Kind.FETCH, Kind.EVENT)
    return tuple((kind_filter(settings.group, kind), 1) for kind in kinds)


async def run_cloud(
    settings: CloudSettings,
    *,
    connect: Connect,
    session: str,
    wall_ns: Callable[[], int],
    stopping: asyncio.Event,
    data: Labelled | None = None,
    started: Callable[[Consumer], None] = lambda _: None,
) -> dict[str, dict[str, int]]:
    """Run one cloud consumer until `stopping` is set; return its books.

    Args:
        settings: Everything it was told; `state_dir` must be set.
        connect: Makes its connection.
        session: 16 hexadecimal digits, drawn anew for each run.
        wall_ns: Nanoseconds since the Unix epoch.
        stopping: Set it to end the run in good order.
        data: Of `modules.refinement.data`, as read.
        started: Called once with the consumer, before anything is received.

    Raises:
        DriftwellError: what is wrong with bundles, folder or broker.
    """
    if settings.state_dir is None:
        raise ValueError("state_dir must be set")
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    foundation, edge = open_bundle(settings.foundation), open_bundle(settings.edge)
    with open_consumer(
        settings,
        settings.state_dir,
        edge=edge,
        foundation=foundation,
        session=session,
        wall_ns=wall_ns,
        survives_power_failure=True,
        data=data,
    ) as consumer:
        connection = connect(subscriptions(settings))
        started(consumer)
        log.info("cloud.ready", model=edge.digest[:12], key=consumer.public_key.hex())
        loops = {
            "connection": connection.run(),
            "consume": consume_loop(consumer, connection),
            "learn": learn_loop(consumer, connection),
            "head": head_loop(consumer, connection),
            "revert": revert_loop(consumer),
        }
        keeper = consumer.keeper
        if keeper is not None:
            loops |= {
                "plan": plan_loop(consumer, keeper, connection),
                "submodel": submodel_loop(consumer, keeper, connection),
                "serve": serve_loop(consumer, keeper, connection),
            }
        if keeper is not None and keeper.refiner is not None:
            loops["refine"] = refine_loop(consumer, keeper.refiner)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(loop, name=f"cloud:{name}") for name, loop in loops.items()]
            await stopping.wait()
            for task in tasks:
                task.cancel()
        return consumer.ledger.books()
