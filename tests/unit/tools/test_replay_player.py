"""The player and its pipeline at a broker in memory: order, counts, passes, commands."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.brokers import eventually
from tests.unit.tools import recordings

from driftwell.broker.memory import NOWHERE, MemoryBroker, MemoryConnection
from driftwell.messages import Message, decode, encode
from driftwell.messages.topics import Kind, device_topic
from driftwell.recording.form import RecordedMessage
from driftwell.tools.replay.commands import read_line
from driftwell.tools.replay.outcome import BrokerReplay
from driftwell.tools.replay.pipeline import IN_FLIGHT, Pipeline
from driftwell.tools.replay.plan import Wishes, make_plan
from driftwell.tools.replay.player import BrokerWishes, Player
from driftwell.tools.replay.rewriting import UPWARD, Outgoing
from driftwell.tools.replay.tape import Tape

LIMIT_S = 20.0
ONCE = BrokerWishes(run="run")
PAUSED = BrokerWishes(run="run", is_paused=True)


class Stage:
    """A broker in memory, a replayer's connection, and somebody who listens to everything."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.broker = MemoryBroker()
        self.changed = asyncio.Event()
        self.outcome = BrokerReplay()
        self.connection = MemoryConnection(
            broker=self.broker, client_id="replay", subscriptions=(),
            settings=replace(NOWHERE, ack_timeout_s=0.05),
        )  # fmt: skip
        self.pipeline = Pipeline(self.connection, group, self.changed, self.outcome, retry_s=0.01)
        self.heard: list[tuple[str, bytes]] = []
        self.answers: list[str] = []
        self._listener = MemoryConnection(
            broker=self.broker, client_id="listener", subscriptions=(("#", 1),), clean=False
        )
        coroutines = (
            self.connection.run(), self._listener.run(), self._listen(), self.pipeline.run(),
        )  # fmt: skip
        self.tasks = [group.create_task(coroutine) for coroutine in coroutines]

    async def _listen(self) -> None:
        async for delivery in self._listener.deliveries():
            self.heard.append((delivery.topic, delivery.payload))
            delivery.acknowledge()

    @property
    def messages(self) -> list[Message]:
        return [decode(payload) for _, payload in self.heard]

    @property
    def seqs(self) -> list[int]:
        return [message.seq for message in self.messages]

    async def send(self, numbers: range) -> None:
        """Send numbered messages on three topics, as fast as they are taken."""
        for number in numbers:
            await eventually(lambda: self.pipeline.has_room, LIMIT_S)
            self.pipeline.send(Outgoing(f"t/{number % 3}", b"%d" % number, 1, retain=False))
            if number % 10 == 0:
                await asyncio.sleep(0)

    async def play(
        self, path: Path, *lines: str, wishes: Wishes | None = None, how: BrokerWishes = ONCE
    ) -> None:
        """Play with these commands to the end."""
        with Tape(path) as tape:
            wishes = wishes or Wishes()
            plan = make_plan(wishes, tape.recording.topics, tape.whole, kinds=UPWARD)
            player = Player(
                tape, plan, how, self.pipeline, self.changed, self.outcome,
                monotonic_s=asyncio.get_running_loop().time, answer=self.answers.append,
            )  # fmt: skip
            for line in lines:
                player.tell(read_line(line))
            player.tell_no_more()
            await player.play()
        await eventually(lambda: len(self.heard) == self.outcome.messages)


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        stage = Stage(group)
        await stage.connection.next_epoch(0)
        yield stage
        for task in stage.tasks:
            task.cancel()
        stage.pipeline.abandon()


async def test_what_a_lost_broker_leaves_in_doubt_comes_again_in_order() -> None:
    """A broker that goes away twice in the middle costs nothing, and changes no order."""
    async with open_stage() as stage:
        for cut in range(2):
            await stage.send(range(100 * cut, 100 * cut + 50))
            stage.broker.stop()
            await stage.send(range(100 * cut + 50, 100 * cut + 60))
            stage.broker.start()
            await stage.send(range(100 * cut + 60, 100 * cut + 100))
        await eventually(lambda: stage.pipeline.is_empty, LIMIT_S)
        await eventually(lambda: stage.heard[-1:] == [("t/1", b"199")])

    first_told = list(dict.fromkeys(int(payload) for _, payload in stage.heard))
    assert first_told == list(range(200))
    assert stage.outcome.messages == 200
    assert stage.outcome.resent > 0


async def test_a_silent_broker_is_asked_again() -> None:
    """What it does not answer in time is offered again, until it is answered."""
    async with open_stage() as stage:
        stage.broker.holds_acks = True
        await stage.send(range(5))
        await eventually(lambda: stage.outcome.resent >= 5, LIMIT_S)
        assert stage.outcome.messages == 0
        stage.broker.holds_acks = False
        await eventually(lambda: stage.pipeline.is_empty, LIMIT_S)

    assert stage.outcome.messages == 5


async def test_what_is_refused_is_counted_and_not_repeated() -> None:
    """A topic that the broker denies stops nobody else."""
    async with open_stage() as stage:
        stage.broker.deny("t/1")
        await stage.send(range(30))
        await eventually(lambda: stage.pipeline.is_empty, LIMIT_S)

    assert stage.outcome.messages == 20
    assert stage.outcome.refused.total() == 10
    assert stage.outcome.resent == 0


async def test_what_is_under_way_is_bounded() -> None:
    """Without a broker no more is taken than may be in flight."""
    async with open_stage() as stage:
        stage.broker.stop()
        stage.pipeline.send(Outgoing("t/0", b"0", 1, retain=False))
        await eventually(lambda: not stage.pipeline.has_room)
        stage.broker.start()
        await eventually(lambda: stage.pipeline.has_room)
        for number in range(IN_FLIGHT):
            stage.pipeline.send(Outgoing("t/0", b"%d" % number, 1, retain=False))
        assert not stage.pipeline.has_room
        await eventually(lambda: stage.pipeline.is_empty)


async def test_everything_in_the_order_of_the_file(tmp_path: Path) -> None:
    """At full speed the broker hears all of it, in the file's order, in one new session."""
    path = recordings.write_events(tmp_path / "a.mcap", 300)
    async with open_stage() as stage:
        await stage.play(path)

    assert stage.seqs == list(range(1, 301))
    assert len({message.session for message in stage.messages}) == 1
    assert stage.messages[0].session != recordings.event("cam-1", 1).session


async def test_pace(tmp_path: Path) -> None:
    """Ten messages, a tenth of a second apart, at ten times the speed: 90 ms, and no less."""
    path = recordings.write_events(tmp_path / "a.mcap", 10, every_s=0.1)
    async with open_stage() as stage:
        began_s = asyncio.get_running_loop().time()
        await stage.play(path, wishes=Wishes(speed="10"))
        taken_s = asyncio.get_running_loop().time() - began_s

    assert stage.seqs == list(range(1, 11))
    assert taken_s >= 0.09


async def test_each_pass_has_sessions_of_its_own(tmp_path: Path) -> None:
    """Three passes are three sessions, each whole; kept sessions are one."""
    path = recordings.write_events(tmp_path / "a.mcap", 4)
    async with open_stage() as stage:
        await stage.play(path, how=replace(ONCE, passes=3))
    async with open_stage() as kept:
        await kept.play(path, how=replace(ONCE, passes=3, keeps_sessions=True))

    assert stage.seqs == kept.seqs == [1, 2, 3, 4] * 3
    sessions = [message.session for message in stage.messages]
    assert [len(set(sessions[n : n + 4])) for n in (0, 4, 8)] == [1, 1, 1]
    assert len(set(sessions)) == 3
    assert {message.session for message in kept.messages} == {recordings.event("cam-1", 1).session}


async def test_steps_and_seeks(tmp_path: Path) -> None:
    """Commands are obeyed in turn, each step to its end; a way back has a session of its own."""
    path = recordings.write_events(tmp_path / "a.mcap", 10)
    async with open_stage() as stage:
        await stage.play(path, "step", "step 2", "seek 6", "step", "seek 1", "step 2", how=PAUSED)

    assert stage.seqs == [1, 2, 3, 7, 2, 3]
    sessions = [message.session for message in stage.messages]
    assert len(set(sessions[:4])) == len(set(sessions[4:])) == 1
    assert len(set(sessions)) == 2
    positions = [answer.split(" of ")[0] for answer in stage.answers]
    assert positions == ["0.000", "2.000", "6.000", "6.000", "1.000", "2.000"]


async def test_steps_over_the_end_of_a_pass(tmp_path: Path) -> None:
    """Steps go on into the next pass; where there is none, those left over are forgotten."""
    path = recordings.write_events(tmp_path / "a.mcap", 3)
    async with open_stage() as stage:
        await stage.play(path, "step 99", "seek 1", "step", how=replace(PAUSED, passes=2))

    assert stage.seqs == [1, 2, 3, 1, 2, 3, 2]


async def test_a_wrong_place_moves_nothing(tmp_path: Path) -> None:
    """A seek out of range is answered with the range, and the replay is where it was."""
    path = recordings.write_events(tmp_path / "a.mcap", 3)
    async with open_stage() as stage:
        await stage.play(path, "step", "seek 5", "step", how=PAUSED)

    assert stage.seqs == [1, 2]
    assert "it runs from 0 to 2.000 s" in stage.answers[1]


async def test_quit(tmp_path: Path) -> None:
    """After `quit` nothing more goes out, and what is under way is answered."""
    path = recordings.write_events(tmp_path / "a.mcap", 500)
    async with open_stage() as stage:
        await stage.play(path, "step 3", "quit", "step", how=PAUSED)

    assert stage.seqs == [1, 2, 3]
    assert stage.outcome.messages == 3


async def test_a_stretch_of_some_devices_under_other_names(tmp_path: Path) -> None:
    """Range, filter, renaming and clones work together, each message of a moment in order."""
    messages = [
        recordings.recorded(recordings.event(device, seq), seq)
        for seq in range(1, 6)
        for device in ("cam-1", "cam-2", "cam-3")
    ]
    path = recordings.write(tmp_path / "a.mcap", messages)
    wishes = Wishes(
        devices=("cam-1", "cam-3"), renames=("cam-3=back",), clones=2, start="1", end="2",
        speed="max",
    )  # fmt: skip
    async with open_stage() as stage:
        await stage.play(path, wishes=wishes)

    told = [(message.device, message.seq) for message in stage.messages]
    names = ("cam-1-001", "cam-1-002", "back-001", "back-002")
    assert told == [(name, seq) for seq in (2, 3) for name in names]


async def test_a_clock_that_goes_back(tmp_path: Path) -> None:
    """The file's order stays, the jump is counted, and nothing waits for a time that was."""
    messages = [
        recordings.recorded(recordings.event("cam-1", seq), at_s)
        for seq, at_s in enumerate((0.0, 0.05, 0.02, 0.04, 0.06), 1)
    ]
    path = recordings.write(tmp_path / "a.mcap", messages)
    async with open_stage() as stage:
        await stage.play(path, wishes=Wishes(speed="1"))

    assert stage.seqs == [1, 2, 3, 4, 5]
    assert stage.outcome.jumps == 1


async def test_what_breaks_its_own_rules_is_left_out(tmp_path: Path) -> None:
    """It is counted by what is wrong with it, and the next message comes as it would."""
    good = [recordings.recorded(recordings.event("cam-1", seq), seq) for seq in (1, 2)]
    topic = device_topic("default", "cam-1", Kind.EVENT)
    other = encode(recordings.event("cam-2", 1))
    bad = [RecordedMessage(topic, payload, recordings.BEGIN_NS, 0) for payload in (b"?", other)]
    path = recordings.write(tmp_path / "a.mcap", [good[0], *bad, good[1]])
    async with open_stage() as stage:
        await stage.play(path)

    assert stage.seqs == [1, 2]
    assert stage.outcome.refused == {"left out: malformed": 1, "left out: wrong-sender": 1}


@pytest.mark.parametrize("chunk_bytes", [200, 1_000_000])
async def test_a_seek_in_a_recording_of_many_chunks(tmp_path: Path, chunk_bytes: int) -> None:
    """Wherever the chunks end, a seek finds the first message that is due from there on."""
    messages = [recordings.recorded(recordings.event("cam-1", n + 1), n) for n in range(50)]
    path = recordings.write(tmp_path / "a.mcap", messages, chunk_bytes=chunk_bytes)
    lines = [line for place in (30, 7, 49, 0) for line in (f"seek {place}", "step")]
    async with open_stage() as stage:
        await stage.play(path, *lines, how=PAUSED)

    assert stage.seqs == [31, 8, 50, 1]
