"""The command `driftwell` in processes of its own, and a broker in another."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.brokers import eventually, require_mosquitto

from driftwell.broker.mosquitto_process import MosquittoProcess

ROOT = Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-m", "driftwell.tools.cli")
LIMIT_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Program:
    """One `driftwell ...` in a process of its own."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self._log = log
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND, *self._arguments, stdout=log, stderr=log, env=environment
            )

    async def end(self, how: signal.Signals) -> int:
        """Send a signal, unless it has ended, and wait for the end."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(how)
        return await self.finish()

    async def kill(self) -> None:
        """End it as a power cut would; it must have been alive."""
        assert await self.end(signal.SIGKILL) == -signal.SIGKILL, self.log

    async def finish(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(LIMIT_S):
            return await self._process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]


class EmbeddedProcess(Program):
    """`driftwell broker run`, with the face of a `MosquittoProcess`."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        super().__init__(log, "broker", "run", "--port", str(self.port))

    async def start(self) -> None:
        await super().start()
        await eventually(self._accepts, LIMIT_S)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    async def restart(self) -> None:
        await self.kill()
        await self.start()


@asynccontextmanager
async def open_broker(name: str, folder: Path) -> AsyncIterator[EmbeddedProcess | MosquittoProcess]:
    if name == "mosquitto":
        require_mosquitto()
        async with MosquittoProcess() as mosquitto:
            yield mosquitto
        return
    embedded = EmbeddedProcess(folder / "broker.log")
    await embedded.start()
    try:
        yield embedded
    finally:
        await embedded.end(signal.SIGKILL)
