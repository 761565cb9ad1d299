import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.brokers import eventually
from tests.tiny import Ticks
from tests.unit.recording.recorded import START_NS, message, payload_of, read_all

from driftwell.broker.memory import MemoryBroker, MemoryConnection
from driftwell.messages.errors import RecordingError
from driftwell.messages.topics import Kind, cohort_head_topic, device_topic
from driftwell.recording.background import BackgroundWriter
from driftwell.recording.form import RecordedMessage
from driftwell.recording.writer import RecordingWriter
from driftwell.tools.recorder import LONGEST_LINGER, Heard, run_recorder
from driftwell.tools.subscriptions import group_filters


class Studio:
    """A recorder at a broker in memory, and a peer that talks."""

    def __init__(self, path: Path, group: asyncio.TaskGroup) -> None:
        self.path = path
        self.broker = MemoryBroker()
        self.stopping = asyncio.Event()
        self.told: list[int] = []
        self.recorder = self._connect("recorder", group_filters("home"))
        self.peer = self._connect("peer", ())
        self.pause: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._group = group
        self._talking = group.create_task(self.peer.run())

    def _connect(self, name: str, filters: tuple[str, ...]) -> MemoryConnection:
        return MemoryConnection(
            broker=self.broker, client_id=name, subscriptions=tuple((one, 1) for one in filters)
        )

    def start(self) -> asyncio.Task[Heard]:
        self._writer = RecordingWriter(self.path, software="test", clock_s=Ticks())
        return self._group.create_task(self.record(BackgroundWriter(self._writer)))

    @property
    def recorded(self) -> int:
        """Messages that were written so far."""
        return self._writer.messages

    async def record(self, background: BackgroundWriter, *, outlives_disk: bool = False) -> Heard:
        return await run_recorder(
            self.recorder, background, now_ns=lambda: START_NS, stopping=self.stopping,
            linger_s=0.05, outlives_disk=outlives_disk, pause=self.pause,
            progress=lambda heard: self.told.append(heard.messages),
        )  # fmt: skip

    async def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        await self.peer.publish(topic, payload, qos=1, retain=retain)

    async def close(self) -> None:
        self.stopping.set()
        self._talking.cancel()


@asynccontextmanager
async def open_studio(tmp_path: Path) -> AsyncIterator[Studio]:
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        studio = Studio(tmp_path / "a.mcap", group)
        await studio.peer.next_epoch(0)
        try:
            yield studio
        finally:
            await studio.close()


async def test_group_is_recorded_once(tmp_path: Path) -> None:
    """Every kind is in the file once, with both clocks, and echoes are not."""
    async with open_studio(tmp_path) as studio:
        recording = studio.start()
        await studio.recorder.next_epoch(0)
        for kind in Kind:
            if kind is not Kind.STREAM:
                payload = b"" if kind in ("echo", "predictions") else payload_of(kind)
                await studio.say(device_topic("home", "cam-7", kind), payload)
        await studio.say(cohort_head_topic("home", "yard"), payload_of(Kind.HEAD))
        await studio.say("driftwell/v1/shed/cam-7/state", b"another group")
        studio.stopping.set()
        heard = await recording

    found = read_all(studio.path)
    assert heard.messages == len(found) == 12
    assert {one.received_ns for one in found} == {START_NS}
    assert {one.sent_ns for one in found} == {START_NS, message(Kind.ACK).sent_ns}
    assert studio.told[-1] == 12


async def test_retained_messages_come_once(tmp_path: Path) -> None:
    """A lost connection does not repeat what the broker has retained, unless it changed."""
    head = device_topic("home", "cam-7", Kind.HEAD)
    async with open_studio(tmp_path) as studio:
        await studio.say(head, b"1", retain=True)
        recording = studio.start()
        await studio.recorder.next_epoch(0)
        studio.recorder.drop()
        await studio.recorder.next_epoch(1)
        studio.recorder.drop()
        await studio.say(head, b"2", retain=True)
        await studio.recorder.next_epoch(2)
        studio.stopping.set()
        await recording

    assert [one.payload for one in read_all(studio.path)] == [b"1", b"2"]


async def test_messages_heard_live_come_once(tmp_path: Path) -> None:
    """A retained message that was heard when it was sent is not recorded again later."""
    head, event = (device_topic("home", "cam-7", kind) for kind in (Kind.HEAD, Kind.EVENT))
    async with open_studio(tmp_path) as studio:
        recording = studio.start()
        await studio.recorder.next_epoch(0)
        for payload in (b"1", b"2"):
            await studio.say(head, payload, retain=True)
            await studio.say(event, b"same")
        await eventually(lambda: studio.told[-1:] == [4])
        studio.recorder.drop()
        await studio.recorder.next_epoch(1)
        await studio.say(head, b"1", retain=True)
        studio.stopping.set()
        await recording

    assert [one.payload for one in read_all(studio.path)] == [b"1", b"same", b"2", b"same", b"1"]


@pytest.mark.parametrize("count", [5, 1000])
async def test_stop_waits_for_silence(tmp_path: Path, count: int) -> None:
    """What still arrives when the recorder is told to stop is in the file, but not for ever."""
    topic = device_topic("home", "cam-7", Kind.EVENT)
    numbers = iter(range(count))
    async with open_studio(tmp_path) as studio:
        said = 0

        async def say_another(_seconds: float) -> None:
            nonlocal said
            if next(numbers, None) is None:
                return
            before, said = studio.recorded, said + 1
            await studio.say(topic, str(said).encode())
            await eventually(lambda: studio.recorded == before + 1)

        studio.pause = say_another
        recording = studio.start()
        await studio.recorder.next_epoch(0)
        studio.stopping.set()
        await recording

    assert said == min(count, LONGEST_LINGER)
    assert [one.payload for one in read_all(studio.path)] == [
        str(number).encode() for number in range(1, said + 1)
    ]


class FullDisk(RecordingWriter):
    """A disk that takes nothing any more."""

    def write(self, one: RecordedMessage) -> bool:
        raise RecordingError("the disk is full")


async def test_full_disk_ends_the_recorder_only(tmp_path: Path) -> None:
    """A full disk ends the recorder with its error, once, and nobody else."""
    topic = device_topic("home", "cam-7", Kind.EVENT)
    async with open_studio(tmp_path) as studio:
        full = BackgroundWriter(FullDisk(studio.path, software="test", clock_s=Ticks()))
        await studio.say(topic, b"1", retain=True)

        with pytest.raises(RecordingError, match="disk is full"):
            await studio.record(full)

        await studio.say(topic, b"2")
        assert not studio.recorder.is_connected
        assert full.left_out == 1


async def test_full_disk_does_not_end_the_program_around(tmp_path: Path) -> None:
    """Inside another program the recorder goes on, leaves all out, and tells it when it is over."""
    topic = device_topic("home", "cam-7", Kind.EVENT)
    async with open_studio(tmp_path) as studio:
        full = BackgroundWriter(FullDisk(studio.path, software="test", clock_s=Ticks()))
        failures: list[str] = []

        async def record() -> None:
            try:
                await studio.record(full, outlives_disk=True)
            except RecordingError as error:
                failures.append(str(error))

        async with asyncio.TaskGroup() as group:
            group.create_task(record())
            await studio.recorder.next_epoch(0)
            await studio.say(topic, b"x")
            await eventually(lambda: full.failure is not None)
            told = len(studio.told)
            await eventually(lambda: len(studio.told) > told + 2)
            for _ in range(2):
                await studio.say(topic, b"x")
            await eventually(lambda: studio.told[-1:] == [3])
            assert failures == []
            studio.stopping.set()

    assert failures == ["the disk is full"]
    assert full.left_out == 3


@pytest.mark.parametrize("size", [0, 5])
async def test_progress_is_told(tmp_path: Path, size: int) -> None:
    """Whoever watches is told how much was heard, also when nothing comes."""
    async with open_studio(tmp_path) as studio:
        recording = studio.start()
        await studio.recorder.next_epoch(0)
        for _ in range(size):
            await studio.say(device_topic("home", "cam-7", Kind.EVENT), b"")
        await eventually(lambda: studio.told[-1:] == [size])
        studio.stopping.set()
        heard = await recording

    assert (heard.messages, heard.left_out) == (size, 0)
