"""Programs that replay: a command as a process, a real cloud, a real broker."""

import asyncio
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Self

from tests.brokers import Rig, eventually, open_rig
from tests.golden.recording.write import (
    HERE,
    RECORDING,
    SEED,
    replay_environment,
)

from driftwell.cloud.ledger import DATABASE
from driftwell.messages import decode
from driftwell.recording.reader import Recording, Selection
from driftwell.tools.replay.rewriting import UPWARD

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


class Cloud:
    """A real cloud at a real broker, with what the recorded one was told."""

    def __init__(self, port: int, state: Path) -> None:
        self._state = state
        self._arguments = (
            "cloud", "run", "--method", "cema", *BUNDLES, *METHOD,
            "--broker", f"mqtt://127.0.0.1:{port}", "--group", "golden",
            "--seed", str(SEED), "--state", str(state), "--threads", "1",
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
