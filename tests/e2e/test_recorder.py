"""A real recorder at real brokers: killed with `kill -9`, out of disk, told to stop."""

import asyncio
import io
import os
import random
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Chunk, Message
from mcap.stream_reader import StreamReader, breakup_chunk
from tests.brokers import eventually
from tests.programs import EmbeddedProcess, open_broker
from tests.unit.recording.recorded import message, payload_of, read_all, save

from driftwell.broker import Outcome, parse_broker_url
from driftwell.broker.backoff import Backoff
from driftwell.broker.mosquitto_process import MosquittoProcess
from driftwell.broker.mqtt import MqttConnection
from driftwell.messages.codec import decode
from driftwell.messages.event import Event
from driftwell.messages.samples import SampleBatch
from driftwell.messages.topics import Kind, device_topic
from driftwell.recording.recovery import verify

pytestmark = pytest.mark.integration

LIMIT_S = 60.0
FLUSH_S = 0.5
TOPIC = device_topic("home", "cam-7", Kind.UPDATE)
CUTS = 50
SEED = 20_240_607


class Recorder:
    """`driftwell record` in a process of its own."""

    def __init__(self, folder: Path, port: int, *options: str, limit_kb: int | None = None) -> None:
        self.path = folder / "run.mcap"
        self._log = folder / "recorder.log"
        words = (
            *(
                sys.executable,
                "-m",
                "driftwell.tools.cli",
                "record",
                str(self.path),
                "--group",
                "home",
            ),
            *("--broker", f"mqtt://127.0.0.1:{port}", "--flush-s", str(FLUSH_S), *options),
        )
        limit = f"ulimit -f {limit_kb}; " if limit_kb else ""
        self._command = ("bash", "-c", f"{limit}exec {shlex.join(words)}")
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._command, stdout=log, stderr=log, env=dict(os.environ)
            )

    async def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(how)
        async with asyncio.timeout(LIMIT_S):
            return await self.process.wait()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


class Peer:
    """Publishes numbered messages that do not compress."""

    def __init__(self, connection: MqttConnection) -> None:
        self._connection = connection
        self._noise = random.Random(SEED)
        self.counted = 0
        """Messages that the broker has."""

    async def say(self, topic: str, payload: bytes) -> None:
        answer = await self._connection.publish(topic, payload, qos=1, retain=False)
        assert answer.outcome is Outcome.ACKED, answer

    async def count(self) -> None:
        await self.say(TOPIC, self.counted.to_bytes(4, "big") + self._noise.randbytes(3000))
        self.counted += 1


@asynccontextmanager
async def open_peer(broker: EmbeddedProcess | MosquittoProcess) -> AsyncIterator[Peer]:
    connection = MqttConnection(
        settings=parse_broker_url(f"mqtt://127.0.0.1:{broker.port}"), client_id="peer",
        subscriptions=(), will=None, clean=True, echo_topic=None, backoff=Backoff(),
        uniform=lambda low, high: high, clock=time.monotonic,
    )  # fmt: skip
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        running = group.create_task(connection.run())
        try:
            await connection.next_epoch(0)
            yield Peer(connection)
        finally:
            running.cancel()


def numbers(path: Path) -> list[int]:
    return [int.from_bytes(one.payload[:4], "big") for one in read_all(path)]


def complete_chunks(content: bytes) -> list[tuple[int, list[bytes]]]:
    """As the MCAP library sees them: where each ends, and the payloads on `TOPIC` in it."""
    found: list[tuple[int, list[bytes]]] = []
    file = io.BytesIO(content)
    try:
        for record in StreamReader(file, emit_chunks=True).records:
            if isinstance(record, Chunk):
                parts = breakup_chunk(record, validate_crc=True)
                found.append((file.tell(), [p.data for p in parts if isinstance(p, Message)]))
    except (EndOfFile, McapError, ValueError):
        pass
    return found


@pytest.mark.parametrize("broker_name", ["embedded", "mosquitto"])
async def test_killed_recorder(tmp_path: Path, broker_name: str) -> None:
    """After `kill -9` all but the last moments is there; cut anywhere, no whole chunk is lost."""
    saved = tmp_path / "saved.mcap"
    async with open_broker(broker_name, tmp_path) as broker, open_peer(broker) as peer:
        recorder = Recorder(tmp_path, broker.port, "--no-views")
        await recorder.start()
        try:
            while recorder.size < 1_000_000:
                await peer.count()
                await asyncio.sleep(0.004)
            last = peer.counted - 1
            # Nothing more comes, and still the rest is on the disk before long.
            await eventually(lambda: last in _saved_numbers(recorder.path, saved), LIMIT_S)
            for _ in range(5):
                await peer.count()
        finally:
            code = await recorder.end(signal.SIGKILL)

    assert code == -signal.SIGKILL, recorder.log
    salvage = save(recorder.path, saved)
    got = numbers(saved)
    assert got == list(range(got[0], got[0] + len(got)))
    assert salvage.losses.bytes == 0
    assert got[-1] >= last
    _assert_every_cut_is_recovered(recorder.path, saved)


def _saved_numbers(path: Path, saved: Path) -> list[int]:
    save(path, saved)
    return numbers(saved)


def _assert_every_cut_is_recovered(path: Path, saved: Path) -> None:
    content = path.read_bytes()
    draw = random.Random(SEED)
    chunks = complete_chunks(content)
    assert len(chunks) > 2
    for _ in range(CUTS):
        cut = draw.randrange(200, len(content))
        path.write_bytes(content[:cut])
        save(path, saved)

        expected = [payload for end, payloads in chunks if end <= cut for payload in payloads]
        assert [one.payload for one in read_all(saved)] == expected, cut


async def test_full_disk(tmp_path: Path) -> None:
    """A full disk ends the recorder with one clear line; broker and peer do not notice."""
    async with open_broker("embedded", tmp_path) as broker, open_peer(broker) as peer:
        recorder = Recorder(tmp_path, broker.port, limit_kb=300)
        await recorder.start()
        assert recorder.process is not None
        while recorder.process.returncode is None:
            await peer.count()
            await asyncio.sleep(0.02)  # slow enough for several chunks before the disk is full
        code = await recorder.end(signal.SIGTERM)
        for _ in range(20):
            await peer.count()

    assert code == 2, recorder.log
    assert recorder.log.count("recording stopped") == 1
    assert "Traceback" not in recorder.log
    assert recorder.size <= 300 * 1024
    save(recorder.path, tmp_path / "saved.mcap")
    got = numbers(tmp_path / "saved.mcap")
    assert len(got) > 20
    assert got == list(range(got[0], got[0] + len(got)))


async def _until_subscribed(recorder: Recorder) -> None:
    await eventually(lambda: "broker.connected" in recorder.log, LIMIT_S)


@pytest.mark.parametrize("broker_name", ["embedded", "mosquitto"])
async def test_stopped_recorder(tmp_path: Path, broker_name: str) -> None:
    """Told to stop, the recorder writes down all the broker had, and closes the file."""
    async with open_broker(broker_name, tmp_path) as broker, open_peer(broker) as peer:
        recorder = Recorder(tmp_path, broker.port)
        await recorder.start()
        try:
            await _until_subscribed(recorder)
            for _ in range(50):
                await peer.count()
            for kind in (Kind.TELEMETRY, Kind.SAMPLES, Kind.ACK):
                await peer.say(device_topic("home", "cam-7", kind), payload_of(kind))
        finally:
            code = await recorder.end(signal.SIGINT)

    assert code == 0, recorder.log
    verdict = verify(recorder.path)
    assert verdict.is_whole
    assert verdict.views == 3
    found = read_all(recorder.path)
    counted = [int.from_bytes(m.payload[:4], "big") for m in found if m.topic == TOPIC]
    assert counted == list(range(50))
    batch = decode(next(m.payload for m in found if m.topic.endswith("/samples")))
    assert isinstance(batch, SampleBatch)


async def test_excerpt_of_a_drift(tmp_path: Path) -> None:
    """In ring mode nothing is written until a device tells of a drift; then what came before."""
    event = decode(payload_of(Kind.EVENT))
    assert isinstance(event, Event)
    drift = message(Kind.EVENT, payload=_as_drift(event))
    async with open_broker("embedded", tmp_path) as broker, open_peer(broker) as peer:
        recorder = Recorder(tmp_path, broker.port, "--ring-minutes", "5", "--after-s", "0.5")
        excerpt = tmp_path / "run-0001.mcap"
        await recorder.start()
        try:
            await _until_subscribed(recorder)
            for _ in range(30):
                await peer.count()
            assert not excerpt.exists()
            await peer.say(drift.topic, drift.payload)
            await peer.count()
            await eventually(excerpt.exists, LIMIT_S)
        finally:
            code = await recorder.end(signal.SIGTERM)

    assert code == 0, recorder.log
    assert verify(excerpt).is_whole
    payloads = [one.payload for one in read_all(excerpt)]
    assert payloads.index(drift.payload) == 30
    assert [int.from_bytes(p[:4], "big") for p in payloads[:30]] == list(range(30))


def _as_drift(event: Event) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(event, event="drift", code=""))
