"""`driftwell replay` as a process: real brokers, a real cloud, a terminal, and bad input."""

import asyncio
import fcntl
import os
import pty
import signal
import sqlite3
import sys
import termios
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Self

import pytest
from tests.brokers import Party, Rig, eventually, open_rig
from tests.golden.recording.write import (
    HERE,
    RECORDING,
    SEED,
    SESSIONS,
    replay_command,
    replay_environment,
)

from driftwell.cloud.ledger import DATABASE
from driftwell.messages import decode
from driftwell.messages.topics import parse_topic
from driftwell.recording.reader import Recording, Selection
from driftwell.tools.replay.rewriting import UPWARD

pytestmark = pytest.mark.integration

COMMAND = (sys.executable, "-m", "driftwell.tools.cli")
BUNDLES = ("--edge", str(HERE / "edge"), "--foundation", str(HERE / "foundation"))
METHOD = (
    *("--set", "method.policy.batch=16", "--set", "method.replay.capacity=200"),
    *("--set", "method.replay.minimum=32", "--set", "method.replay.batch=16"),
)
LIMIT_S = 60.0
VERSIONS = {"cam-1": 8, "yard": 17}
MESSAGES = 57


class Process:
    """One `driftwell ...`, with what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, *arguments: str | Path, **environment: str) -> Self:
        return cls(
            await asyncio.create_subprocess_exec(
                *COMMAND, *map(str, arguments), env={**replay_environment(), **environment},
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )  # fmt: skip

    async def say(self, line: str) -> str:
        """Write a line to its standard input, and read the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        return await self.hear()

    async def hear(self) -> str:
        """The next line of its standard error."""
        assert self._process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            return (await self._process.stderr.readline()).decode()

    async def hear_until(self, text: str) -> None:
        while text not in (line := await self.hear()):
            assert line, f"it ended before it said {text!r}"

    async def end(self, how: signal.Signals | None = None) -> tuple[int, str, str]:
        """Wait for the end, after a signal if there is one: exit code, output, errors."""
        if how is not None:
            self._process.send_signal(how)
        async with asyncio.timeout(LIMIT_S):
            output, errors = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, output.decode(), errors.decode()


async def driftwell(*arguments: str | Path) -> str:
    """Run to the end in good order; its standard output."""
    code, output, errors = await (await Process.start(*arguments)).end()
    assert code == 0, errors
    assert "Traceback" not in errors
    return output


async def replay(port: int, *options: str) -> None:
    await driftwell(
        "replay", RECORDING, "--broker", f"mqtt://127.0.0.1:{port}", "--speed", "max", *options
    )


async def into_cloud() -> list[str]:
    command = replay_command()[len(COMMAND) :]
    return (await driftwell(*command)).split()


class Cloud:
    """A real cloud at a real broker, with what the recorded one was told."""

    def __init__(self, port: int, state: Path) -> None:
        self._state = state
        self._arguments = (
            "cloud", "run", *BUNDLES, *METHOD, "--broker", f"mqtt://127.0.0.1:{port}", "--group",
            "golden", "--seed", str(SEED), "--state", str(state), "--threads", "1",
        )  # fmt: skip

    async def versions(self) -> Counter[str]:
        """How many each cohort has."""
        listed = await driftwell("cloud", "versions", "--state", self._state)
        return Counter(line.split()[0] for line in listed.splitlines())

    async def wait_for(self, expected: dict[str, int]) -> None:
        with closing(sqlite3.connect(f"file:{self._state / DATABASE}?mode=ro", uri=True)) as ledger:
            count = "SELECT count(*) FROM versions"
            enough = sum(expected.values())
            await eventually(lambda: ledger.execute(count).fetchone()[0] >= enough, LIMIT_S)

    async def digests(self) -> list[str]:
        return (await driftwell("cloud", "versions", "--state", self._state, "--digests")).split()

    async def __aenter__(self) -> Self:
        self._process = await Process.start(*self._arguments)
        await self._process.hear_until("broker.connected")
        return self

    async def __aexit__(self, *error: object) -> None:
        code, _, errors = await self._process.end(signal.SIGTERM)
        assert code == 0, errors


@asynccontextmanager
async def open_port(name: str) -> AsyncIterator[int]:
    async with open_rig(name) as rig:
        yield port_of(rig)


def port_of(rig: Rig) -> int:
    port: int = rig.port  # type: ignore[attr-defined]  # of a rig with sockets
    return port


def recorded_order() -> dict[str, list[int]]:
    """The numbers of the messages on each topic, as they were recorded."""
    order: dict[str, list[int]] = {}
    with Recording(RECORDING) as recording:
        for message in recording.messages(Selection(kinds=UPWARD)):
            order.setdefault(message.topic, []).append(decode(message.payload).seq)
    return order


@pytest.mark.parametrize("broker", ["embedded", "mosquitto"])
async def test_everything_arrives_in_order(broker: str) -> None:
    """A broker hears the whole recording, each topic in its order, and the last state stays."""
    async with open_rig(broker) as rig:
        party = await rig.join("listener", "driftwell/v1/#")
        await replay(port_of(rig))
        heard = await take(party, MESSAGES)
        late = await rig.join("late", "driftwell/v1/+/+/state")
        retained = await late.receive(3)

    order: dict[str, list[int]] = {}
    for topic, payload in heard:
        order.setdefault(topic, []).append(decode(payload).seq)
    assert order == recorded_order()
    assert {decode(payload).session for _, payload in heard}.isdisjoint(SESSIONS.values())
    assert all(delivery.retain for delivery in retained)


@pytest.mark.parametrize("options", [(), ("--keep-sessions",)], ids=["new", "kept"])
async def test_a_real_cloud_makes_the_same_versions(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Over Mosquitto or straight in, in old sessions or new: the same bits."""
    async with open_port("mosquitto") as port, Cloud(port, tmp_path / "cloud") as cloud:
        await replay(port, *options)
        await cloud.wait_for(VERSIONS)
        digests = await cloud.digests()

    assert digests == await into_cloud()


async def test_twice_the_same_is_learned_once(tmp_path: Path) -> None:
    """In its old sessions a recording teaches a cloud nothing twice; in new ones it does."""
    async with open_port("mosquitto") as port, Cloud(port, tmp_path / "cloud") as cloud:
        await replay(port, "--keep-sessions")
        await replay(port, "--keep-sessions")
        await replay(port, "--device", "cam-1")
        more = {"cam-1": 2 * VERSIONS["cam-1"], "yard": VERSIONS["yard"]}
        await cloud.wait_for(more)
        versions = await cloud.versions()

    assert versions == more


async def test_clones_make_cohorts(tmp_path: Path) -> None:
    """Five that play one device are five devices for the cloud, each with its own versions."""
    async with open_port("mosquitto") as port, Cloud(port, tmp_path / "cloud") as cloud:
        await replay(port, "--device", "cam-1", "--rename", "cam-1=gate", "--clone", "5")
        expected = {f"gate-00{number}": VERSIONS["cam-1"] for number in range(1, 6)}
        await cloud.wait_for(expected)
        versions = await cloud.versions()

    assert versions == expected


async def test_the_state_folder_is_a_clouds(tmp_path: Path) -> None:
    """What a replay leaves can be asked like any cloud's folder, and begun anew only elsewhere."""
    arguments = (*replay_command()[len(COMMAND) :], "--state", str(tmp_path / "state"))

    digests = await driftwell(*arguments)
    kept = await driftwell("cloud", "versions", "--state", tmp_path / "state", "--digests")
    again, _, errors = await (await Process.start(*arguments)).end()

    assert digests == kept != ""
    assert (again, errors.count("\n")) == (2, 1)
    assert "is not empty, and a replay begins at the source state" in errors


async def take(party: Party, count: int) -> list[tuple[str, bytes]]:
    """The next messages, each acknowledged before the next: a broker holds back what is more."""
    return [message for _ in range(count) for message in await party.take()]


async def seqs(party: Party, count: int) -> list[tuple[str, int]]:
    """Device and number of the next samples."""
    heard = await take(party, count)
    return [(parse_topic(topic).device, decode(payload).seq) for topic, payload in heard]


async def test_commands_as_lines() -> None:
    """Step, seek, go and quit over standard input, each answered with where the replay is."""
    async with open_rig("mosquitto") as rig:
        party = await rig.join("listener", "driftwell/v1/+/+/samples")
        process = await Process.start(
            "replay", RECORDING, "--broker", f"mqtt://127.0.0.1:{port_of(rig)}", "--pause",
            "--control", "--kinds", "samples", "--speed", "100",
        )  # fmt: skip
        stepped = await process.say("step 2")
        first = await seqs(party, 2)
        sought = await process.say("seek 30")
        wrong = await process.say("seek 1000")
        unknown = await process.say("stop")
        await process.say("step")
        second = await seqs(party, 1)
        back = await process.say("[")
        gone = await process.say("go")
        third = await seqs(party, 3)
        await process.say("pause")
        await process.say("speed max")
        code, _, errors = await _end(process, "quit")

    assert "64." in stepped
    assert ", paused, speed 100, 2 messages" in stepped
    assert first == [("cam-1", 1), ("cam-2", 1)]
    assert sought.startswith("30.000 of")
    assert "seek 1000 is outside of the recording: it runs from 0 to" in wrong
    assert "'stop' is not a command; there are: pause, go" in unknown
    assert second == [("cam-1", 6)]
    assert float(back.split()[0]) > 20
    assert ", playing, speed 100," in gone
    assert third == [("cam-1", 5), ("cam-2", 5), ("cam-3", 5)]
    assert code == 0, errors
    assert "messages a second; 0 refused" in errors


async def _end(process: Process, line: str) -> tuple[int, str, str]:
    assert process._process.stdin is not None
    process._process.stdin.write(line.encode() + b"\n")
    return await process.end()


async def test_ctrl_c_at_a_broker() -> None:
    """It ends in good order: what was sent is told, and the exit code says it was not all."""
    async with open_rig("mosquitto") as rig:
        party = await rig.join("listener", "driftwell/v1/#")
        process = await Process.start(
            "replay", RECORDING, "--broker", f"mqtt://127.0.0.1:{port_of(rig)}"
        )
        await party.take(3)
        code, output, errors = await process.end(signal.SIGINT)

    assert (code, output) == (130, "")
    assert errors.startswith("3 messages, ")
    assert "Traceback" not in errors


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_in_a_cloud(tmp_path: Path, how: signal.Signals) -> None:
    """No list of digests that is not whole, and nothing is left behind."""
    process = await Process.start(
        *replay_command("--speed", "1")[len(COMMAND) :], TMPDIR=str(tmp_path)
    )
    await process.hear_until("group golden, method cema")
    await eventually(lambda: len(passing_folders(tmp_path)) == 1, LIMIT_S)
    code, output, errors = await process.end(how)

    assert (code, output) == (130, "")
    assert errors.startswith("stopped before the end:\n")
    assert "Traceback" not in errors
    assert passing_folders(tmp_path) == []


def passing_folders(folder: Path) -> list[Path]:
    """Those in which a cloud has begun."""
    return [ledger.parent for ledger in folder.glob("driftwell-replay-*/cloud.sqlite")]


@pytest.mark.parametrize("end", ["q", "ctrl-c"])
async def test_keys_of_a_terminal(end: str) -> None:
    """Keys are obeyed at once and not shown, and afterwards the terminal is as it was."""
    async with open_rig("mosquitto") as rig:
        party = await rig.join("listener", "driftwell/v1/+/+/samples")
        keyboard, terminal = pty.openpty()
        before = termios.tcgetattr(terminal)
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "replay", str(RECORDING), "--broker", f"mqtt://127.0.0.1:{port_of(rig)}",
            "--pause", "--kinds", "samples", env={**replay_environment(), "TERM": "xterm"},
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        shown = asyncio.Task(_read_all(keyboard))
        await eventually(lambda: termios.tcgetattr(terminal) != before, LIMIT_S)
        os.write(keyboard, b".\x1b[C")
        stepped = await seqs(party, 2)
        os.write(keyboard, b"]" * 3 + b".")
        sought = await seqs(party, 1)
        os.write(keyboard, b"q" if end == "q" else b"\x03")
        async with asyncio.timeout(LIMIT_S):
            code = await process.wait()
        after = termios.tcgetattr(terminal)
        os.close(terminal)
        text = await shown

    assert stepped == [("cam-1", 1), ("cam-2", 1)]
    assert sought == [("cam-1", 7)]
    assert code == (0 if end == "q" else 130)
    assert after == before
    assert "of 64." in text
    assert "paused, speed 1" in text
    assert "3 messages, " in text


async def _read_all(descriptor: int) -> str:
    def read() -> bytes:
        said = b""
        try:
            while block := os.read(descriptor, 4096):
                said += block
        except OSError:  # the other side is closed
            pass
        finally:
            os.close(descriptor)
        return said

    return (await asyncio.to_thread(read)).decode(errors="replace")


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


def _of_schema_0(content: bytes) -> bytes:
    assert content.count(b"driftwell-1") == 1
    return content.replace(b"driftwell-1", b"driftwell-0")


def _foreign(content: bytes) -> bytes:
    return content.replace(b"driftwell-1", b"ros2-msgs-1")


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "truncated": ("driftwell recording recover", _truncated),
    "flipped": ("was not closed or is damaged", _flipped),
    "schema": ("is a recording of schema 0, this program reads schema 1", _of_schema_0),
    "foreign": ("but not a recording", _foreign),
    "noise": ("is not an MCAP file", lambda content: bytes(len(content))),
    "empty": ("is not an MCAP file", lambda content: content[:0]),
}


@pytest.mark.parametrize(
    ("name", "into"),
    [*((name, "broker") for name in DAMAGES), ("truncated", "cloud"), ("flipped", "cloud")],
)
async def test_a_file_that_cannot_be_replayed(tmp_path: Path, name: str, into: str) -> None:
    """One line says what is wrong with the file, and no digest is printed."""
    text, damage = DAMAGES[name]
    path = tmp_path / "bad.mcap"
    path.write_bytes(damage(RECORDING.read_bytes()))
    options = BUNDLES if into == "cloud" else ("--broker", "mqtt://127.0.0.1:1")

    await _fails(text, "replay", path, "--into", into, *options)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("cannot be read", ("nowhere.mcap",)),
        ("--start 65 is outside of the recording: it runs from 0 to 64.",
         (RECORDING, "--start", "65")),
        ("--end 2020-01-01 is outside", (RECORDING, "--end", "2020-01-01")),
        ("no 'cam-9' here; there are: cam-1, cam-2, cam-3", (RECORDING, "--device", "cam-9")),
        ("--rename takes old=new", (RECORDING, "--rename", "cam-1")),
        ("speed 'fast' is not understood", (RECORDING, "--speed", "fast")),
        ("--into 'fog' is not known; use broker or cloud", (RECORDING, "--into", "fog")),
        ("--into cloud needs --edge", (RECORDING, "--into", "cloud")),
        ("--seed belongs to --into cloud", (RECORDING, "--seed", "0")),
        ("--loop belongs to --into broker", (RECORDING, "--into", "cloud", "--loop", "0")),
        ("--pause needs a terminal, or --control", (RECORDING, "--pause")),
        ("broker 'x' is not understood", (RECORDING, "--broker", "x")),
        ("--format 'xml' is not known",
         (RECORDING, "--into", "cloud", *BUNDLES, "--format", "xml")),
        ("no bundle at", (RECORDING, "--into", "cloud", "--edge", "x", "--foundation", "y")),
        ("unknown setting 'sed'; did you mean 'seed'",
         (RECORDING, "--into", "cloud", *BUNDLES, "--set", "sed=1")),
    ],
)  # fmt: skip
async def test_wishes_that_cannot_be(text: str, options: tuple[str | Path, ...]) -> None:
    """One line says what is wrong with the command, and what would be right."""
    await _fails(text, "replay", *options)


async def _fails(text: str, *arguments: str | Path) -> None:
    code, output, errors = await (await Process.start(*arguments)).end()
    *_, last = errors.splitlines()

    assert (code, output) == (2, ""), errors
    assert last.startswith("error: ")
    assert text in last
    assert "Traceback" not in errors
