"""One stream through the very daemons: in one process over memory, or as processes over MQTT.

Both ways end in the same `Outcome`: the answers, the edge's summary, the versions made.
"""

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.broker import Connection, Will
from driftwell.broker.embedded import EmbeddedBroker
from driftwell.broker.memory import MemoryBroker, MemoryConnection
from driftwell.broker.mosquitto_process import MosquittoProcess
from driftwell.cloud.ledger import DATABASE, read_books
from driftwell.cloud.service import run_cloud
from driftwell.cloud.settings import CloudSettings
from driftwell.cloud.tables import LIST_VERSIONS
from driftwell.edge.daemon import Summary, run_edge
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.errors import BrokerError
from driftwell.models.bundle import open_bundle
from driftwell.tools.bench.plan import DEVICE, Plan
from driftwell.tools.bench.run_settings import cloud_settings, edge_settings
from driftwell.tools.programs import CLOCKS, cloud_client_id, edge_client_id, new_session
from driftwell.tools.readiness import CLOUD_IS_READY, until_logged
from driftwell.tools.recorded_run import WIRE, join_run, recorded_wire, run_documents
from driftwell.tools.recorder_link import connect_recorder
from driftwell.tools.subscriptions import group_filters

SETTLE_LIMIT_S: Final = 120.0
LOOK_S: Final = 0.1
STREAM: Final = "stream.mcap"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One stream, answered and learned from."""

    labels: NDArray[np.int64]
    """(N,): the edge's answers."""
    summary: Summary
    digests: tuple[str, ...]


async def run_stream(plan: Plan, method: str, stream: Path, folder: Path) -> Outcome:
    """Run one stream with one method; `folder` is empty and holds all state.

    Raises:
        DriftwellError: what kept the daemons from finishing.
    """
    out = plan.recording_of(stream.stem, method)
    if plan.transport == "inprocess":
        summary = await _in_process(plan, method, stream, folder)
    else:
        async with _broker(plan.broker) as url:
            summary = await _as_processes(plan, method, stream, folder, url)
    if out is not None:
        await asyncio.to_thread(join_run, folder, "stream*.mcap", out)
    return Outcome(_read_labels(folder / "predictions.jsonl"), summary, _digests(folder))


def _edge(plan: Plan, method: str, stream: Path, folder: Path, url: str) -> EdgeSettings:
    return edge_settings(
        plan, method, source=f"npz:{stream}", broker=url, state_dir=folder / "edge",
        predictions=str(folder / "predictions.jsonl"),
        record=folder / STREAM if plan.record else None,
    )  # fmt: skip


def _cloud(plan: Plan, method: str, folder: Path, url: str) -> CloudSettings:
    return cloud_settings(plan, method, broker=url, state_dir=folder / "cloud")


async def _in_process(plan: Plan, method: str, stream: Path, folder: Path) -> Summary:
    broker = MemoryBroker()
    edge = _edge(plan, method, stream, folder, "mqtt://memory")
    cloud = _cloud(plan, method, folder, "mqtt://memory")

    def connect_edge(subscriptions: tuple[tuple[str, int], ...], will: Will) -> Connection:
        return MemoryConnection(
            broker=broker,
            client_id=edge_client_id(edge.group, edge.device),
            subscriptions=subscriptions,
            will=will,
        )

    def connect_cloud(subscriptions: tuple[tuple[str, int], ...]) -> Connection:
        return MemoryConnection(
            broker=broker,
            client_id=cloud_client_id(cloud.group),
            subscriptions=subscriptions,
            clean=False,
        )

    def connect_listener(subscriptions: tuple[str, ...]) -> Connection:
        return MemoryConnection(
            broker=broker,
            client_id="recorder",
            subscriptions=tuple((topic_filter, 1) for topic_filter in subscriptions),
        )

    stopping, never = asyncio.Event(), asyncio.Event()
    async with _recorded(plan, cloud, folder, connect_listener), asyncio.TaskGroup() as group:
        group.create_task(
            run_cloud(
                cloud, connect=connect_cloud, session=new_session(), wall_ns=CLOCKS.wall_ns,
                stopping=stopping,
            )
        )  # fmt: skip
        summary = await run_edge(
            edge, connect=connect_edge, session=new_session(), clocks=CLOCKS, stopping=never
        )
        await _until_settled(folder)
        stopping.set()
    return summary


async def _as_processes(plan: Plan, method: str, stream: Path, folder: Path, url: str) -> Summary:
    edge = _edge(plan, method, stream, folder, url)
    cloud = _cloud(plan, method, folder, url)

    def connect(subscriptions: tuple[str, ...]) -> Connection:
        return connect_recorder(url, cloud.group, subscriptions, name="bench")

    async with (
        _recorded(plan, cloud, folder, connect),
        _program("cloud", cloud, folder) as learning,
    ):
        log = folder / "cloud.log"
        await until_logged(log, CLOUD_IS_READY, has_ended=lambda: learning.returncode is not None)
        async with _program("edge", edge, folder) as running:
            if await running.wait() != 0:
                tail = (folder / "edge.log").read_text(encoding="utf-8")[-2000:]
                raise BrokerError(f"the edge daemon failed; its log ends:\n{tail}")
            await _until_settled(folder)
    return _read_summary(folder / "edge.json")


@asynccontextmanager
async def _recorded(
    plan: Plan,
    cloud: CloudSettings,
    folder: Path,
    connect: Callable[[tuple[str, ...]], Connection],
) -> AsyncIterator[None]:
    """Record what goes over the broker, if the plan wants it."""
    if plan.record is None:
        yield
        return
    connection = connect(group_filters(cloud.group))
    digest = open_bundle(plan.foundation).digest
    async with recorded_wire(folder / WIRE, connection, run_documents(cloud, foundation=digest)):
        yield


@asynccontextmanager
async def _program(
    role: str, settings: EdgeSettings | CloudSettings, folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A daemon as a process of its own, its log in the folder; terminated at the end."""
    config = folder / f"{role}.settings.json"
    config.write_bytes(_as_json(settings))
    with (folder / f"{role}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "driftwell.tools.bench.daemon", role, str(config),
            str(folder / f"{role}.json"), stdout=log, stderr=log, env=dict(os.environ),
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


@asynccontextmanager
async def _broker(spec: str) -> AsyncIterator[str]:
    match spec:
        case "amqtt":
            async with EmbeddedBroker() as embedded:
                yield embedded.url
        case "mosquitto":
            async with MosquittoProcess() as mosquitto:
                yield f"mqtt://127.0.0.1:{mosquitto.port}"
        case url:
            yield url


async def _until_settled(folder: Path) -> None:
    """Wait until the cloud has given every stored sample its fate."""
    began = time.monotonic()
    while True:
        with closing(_open(folder)) as database:
            books = read_books(database).get(DEVICE, {})
        if books.get("pending", 0) == 0:
            return
        if time.monotonic() - began > SETTLE_LIMIT_S:
            raise BrokerError(f"the cloud did not finish in {SETTLE_LIMIT_S:.0f} s: {books}")
        await asyncio.sleep(LOOK_S)


def _open(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{folder / 'cloud' / DATABASE}?mode=ro", uri=True)


def _digests(folder: Path) -> tuple[str, ...]:
    with closing(_open(folder)) as database:
        return tuple(str(row[2]) for row in database.execute(LIST_VERSIONS))


def _read_labels(file: Path) -> NDArray[np.int64]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in file.read_bytes().splitlines()]
    labels = {int(line["index"]): int(line["label"]) for line in lines}
    return np.array([labels[index] for index in range(len(labels))], dtype=np.int64)


def _as_json(settings: EdgeSettings | CloudSettings) -> bytes:
    return msgspec.json.encode(settings, enc_hook=str)


def _read_summary(file: Path) -> Summary:
    return msgspec.json.decode(file.read_bytes(), type=Summary)
