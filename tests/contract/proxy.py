"""A TCP connection's middle, which passes bytes on until a test tells it to misbehave."""

import asyncio
from types import TracebackType
from typing import Final, Self

CLOSING_LIMIT_S: Final = 5.0


class Proxy:
    """`async with Proxy(port) as proxy:` stands before a broker at `proxy.port`."""

    def __init__(self, port: int) -> None:
        self._target_port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._silenced: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSING_LIMIT_S)

    def cut(self) -> None:
        """Break every connection, as a lost network does."""
        for writer in self._writers:
            writer.transport.abort()

    def go_silent(self) -> None:
        """Swallow every byte of the present connections, in both directions."""
        self._silenced |= self._writers

    def hold_replies(self) -> None:
        """Swallow what the broker says on the present connections."""
        self._silenced |= {writer for writer in self._writers if self._is_towards_client(writer)}

    def _is_towards_client(self, writer: asyncio.StreamWriter) -> bool:
        own: int = writer.get_extra_info("sockname")[1]
        return own == self.port

    async def _serve(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = {to_client}
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._target_port)
            writers.add(to_broker)
            self._writers |= writers
            self.connections += 1
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(from_client, to_broker, to_client))
                group.create_task(self._pump(from_broker, to_client, to_broker))
        except OSError:
            pass
        finally:
            for writer in writers:
                writer.transport.abort()
            self._writers -= writers
            self._silenced -= writers
            self._tasks.discard(task)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
    ) -> None:
        try:
            while data := await source.read(65_536):
                if sink not in self._silenced:
                    sink.write(data)
                    await sink.drain()
        except OSError:
            pass
        if sink in self._silenced:
            # A dead network does not bring the news of the end either.
            await sink.wait_closed()
        # Let what was passed on arrive, then close both halves.
        sink.close()
        other.close()
