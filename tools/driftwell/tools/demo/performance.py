"""One performance of the demo: broker here, cloud and cameras as processes, until all is seen."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from driftwell.broker.embedded import EmbeddedBroker
from driftwell.tools.demo.fleet import (
    GROUP,
    Fleet,
    Places,
    cloud_arguments,
    cloud_settings,
    edge_arguments,
    running_fleet,
)
from driftwell.tools.demo.record import Record, Tail
from driftwell.tools.demo.scene import Camera
from driftwell.tools.demo.telemetry import telemetry_into
from driftwell.tools.demo.training import Bundles
from driftwell.tools.readiness import CLOUD_IS_READY
from driftwell.tools.recorded_run import WIRE, join_run, recorded_wire, run_documents
from driftwell.tools.recorder_link import connect_recorder
from driftwell.tools.subscriptions import group_filters

LOOK_S: Final = 0.25
"""How often the records are brought up to date and shown."""

Show = Callable[[Sequence[Record]], None]


async def perform(
    cameras: Sequence[Camera],
    bundles: Bundles,
    places: Places,
    *,
    pace: str,
    seed: int,
    record: Path | None,
    show: Show,
) -> list[Record] | None:
    """Run the fleet over all streams; None if SIGINT or SIGTERM ended it before.

    Raises:
        DriftwellError: if a program failed (perhaps in a group of its own).
    """
    records = {c.name: Record(c, Tail(places.predictions(c.name))) for c in cameras}
    shown = list(records.values())
    with stop_requests() as stopping:
        async with (
            EmbeddedBroker() as broker,
            telemetry_into(records, url=broker.url, group=GROUP),
            _recorded(bundles, places, url=broker.url, seed=seed, record=record),
            running_fleet(places.logs) as fleet,
        ):
            await fleet.start("cloud", cloud_arguments(bundles, places, url=broker.url, seed=seed))
            await fleet.until_ready("cloud", CLOUD_IS_READY)
            for camera in cameras:
                arguments = edge_arguments(
                    camera,
                    bundles,
                    places,
                    url=broker.url,
                    pace=pace,
                    is_recorded=record is not None,
                )
                await fleet.start(camera.name, arguments)
            is_complete = await _follow(fleet, shown, stopping, show)
    if record is not None:
        await asyncio.to_thread(join_run, places.recordings, "cam-*.mcap", record)
    return shown if is_complete else None


@contextlib.asynccontextmanager
async def _recorded(
    bundles: Bundles, places: Places, *, url: str, seed: int, record: Path | None
) -> AsyncIterator[None]:
    """Record what goes over the broker, if it is wanted."""
    if record is None:
        yield
        return
    connection = connect_recorder(url, GROUP, group_filters(GROUP), name="demo")
    documents = run_documents(
        cloud_settings(bundles, seed=seed), foundation=bundles.foundation.digest
    )
    async with recorded_wire(places.recordings / WIRE, connection, documents):
        yield


async def _follow(
    fleet: Fleet, records: Sequence[Record], stopping: asyncio.Event, show: Show
) -> bool:
    """Show the records until every camera has ended well; False if asked to stop before."""
    cameras = frozenset(record.camera.name for record in records)
    while not stopping.is_set():
        have_ended = fleet.check(may_end=cameras)
        for record in records:
            record.update()
        show(records)
        if have_ended:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await stopping.wait()
    return False


@contextlib.contextmanager
def stop_requests() -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set, however often they come.

    A second one must not end this process before its children: ending them is bounded anyway.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stopping.set)
    try:
        yield stopping
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
