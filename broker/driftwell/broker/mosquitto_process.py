"""Runs a Mosquitto of its own for a test or a measurement, and can treat it badly.

The broker listens on the loopback interface only, with its files in a folder that goes with
it. Mosquitto finds no free port by itself, so one is looked for, and another if it was taken
in the meantime.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from driftwell.messages.errors import BrokerError

START_LIMIT_S: Final = 10.0
STOP_LIMIT_S: Final = 10.0
LOOK_S: Final = 0.01
PORT_ATTEMPTS: Final = 3
LOG_TAIL: Final = 2000  # characters of its log in an error


def find_mosquitto() -> Path | None:
    """The Mosquitto program; Debian keeps it where a user's PATH does not look."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("mosquitto", path=path)
    return None if found is None else Path(found)


def open_config(port: int, folder: Path) -> str:
    """A broker for anybody, with Mosquitto's defaults and nothing on disk."""
    del folder
    return f"listener {port} 127.0.0.1\nallow_anonymous true\n"


class MosquittoProcess:
    """`async with MosquittoProcess() as broker:` runs one until the block ends.

    Args:
        binary: The program; by default the one that `find_mosquitto` finds.
        port: Where it listens; 0 looks for a free port.
        config: Makes the configuration for a port and a folder for files.
    """

    def __init__(
        self,
        *,
        binary: Path | None = None,
        port: int = 0,
        config: Callable[[int, Path], str] = open_config,
    ) -> None:
        self._binary = binary
        self._wanted_port = port
        self._config = config
        self._stack = contextlib.ExitStack()
        self._process: asyncio.subprocess.Process | None = None
        self.port = port
        self.folder = Path()
        """Where its files are, while the block lasts."""

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Its process number while it runs, to measure what it uses."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    async def __aenter__(self) -> Self:
        self._binary = self._binary or find_mosquitto()
        if self._binary is None:
            raise BrokerError("mosquitto is not installed; on Debian: apt install mosquitto")
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            await self._start_somewhere()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            await self.kill()

    async def start(self) -> None:
        """Start it, and wait until it takes connections.

        Raises:
            BrokerError: if it does not; the text ends with what it wrote.
        """
        (self.folder / "conf").write_text(self._config(self.port, self.folder))
        await self._launch()
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await self._accepts()
        except TimeoutError:
            await self.kill()
            raise BrokerError(f"mosquitto did not start: {self.log[-LOG_TAIL:]}") from None

    async def stop(self) -> None:
        """End it in good order: what it keeps on disk is written."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Kill it if it runs, and start it again at the same place."""
        await self.kill()
        await self.start()

    def pause(self) -> None:
        """Let it hang: connections stay and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal(signal.SIGCONT)

    async def _start_somewhere(self) -> None:
        for attempt in range(PORT_ATTEMPTS):
            self.port = self._wanted_port or _free_port()
            try:
                await self.start()
            except BrokerError:
                taken = not self._wanted_port and "in use" in self.log
                if not taken or attempt == PORT_ATTEMPTS - 1:
                    raise
            else:
                return

    async def _launch(self) -> None:
        command = (str(self._binary), "-c", str(self.folder / "conf"))
        with (self.folder / "log").open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *command, stdout=log, stderr=log
                )
            except OSError as error:
                raise BrokerError(f"cannot run {command[0]}: {error.strerror}") from None

    async def _accepts(self) -> None:
        while self._process is not None and self._process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(LOOK_S)
                continue
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return
        raise BrokerError(f"mosquitto did not start: {self.log[-LOG_TAIL:]}")

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(how)
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _signal(self, what: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(what)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
