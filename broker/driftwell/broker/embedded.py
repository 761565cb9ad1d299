"""A broker inside the program: amqtt, with the edges taken off, for demos and smoke tests.

It needs nothing installed and forgets everything when it ends. It speaks MQTT 3.1.1 and does
not promise what Mosquitto promises: a delivery that was not acknowledged on its connection
is gone. Where amqtt would hang, leak or send what nobody asked for, it is corrected here:

1. Every connection is closed and every task has ended when the broker has stopped.
2. A client that says nothing at all, or vanishes, is let go after one and a half times its
   keepalive, and its will is published.
3. No packet over the limit is read; its connection is closed.
4. The same client identifier again closes the older connection.
5. Retained messages go to those who subscribed, and nobody else waits for their acks.
"""

import asyncio
import contextlib
import functools
import logging
import socket
from types import TracebackType
from typing import Any, Final, Self

import structlog
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker

from driftwell.messages.errors import BrokerError

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

GREETING_LIMIT_S: Final = 10.0  # from the first byte of TCP to a whole CONNECT packet
KEEPALIVE_GRACE: Final = 1.5  # what MQTT 3.1.1 allows a client, in keepalives
CLOSING_LIMIT_S: Final = 1.0  # for what is still to be written to one client
STOP_LIMIT_S: Final = 5.0
LONGEST_FIXED_HEADER: Final = 5  # bytes
VERSION_REFUSAL: Final = bytes([0x20, 3, 0, 0x84, 0])  # CONNACK of MQTT 5, without properties
BACKLOG: Final = 128

_PLUGINS: Final = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
# One line for each client that comes or goes; what matters reaches the program otherwise.
_CHATTY: Final = ("amqtt", "transitions")


class EmbeddedBroker:
    """`async with EmbeddedBroker() as broker:` serves at `broker.url` until the block ends."""

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, packet_limit_bytes: int = 1_500_000
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._packet_limit_bytes = packet_limit_bytes
        self._broker: _Broker | None = None
        self.port = port
        """The port it listens on; a free one is found when 0 was asked for."""

    @property
    def url(self) -> str:
        """Where clients find it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"mqtt://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        listener = self._listen()
        self.port = listener.getsockname()[1]
        broker = _Broker(listener, self._packet_limit_bytes)
        try:
            await broker.start()
        except BaseException:
            listener.close()
            raise
        self._broker = broker
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.stop()

    def _listen(self) -> socket.socket:
        # Bound here and not by amqtt: it logs a traceback and hides which port was taken.
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._wanted_port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise BrokerError(
                f"cannot listen on {self._host}:{self._wanted_port}: {error.strerror}; "
                "stop what listens there, or choose another port (0 finds a free one)"
            ) from None
        listener.setblocking(False)
        return listener


class _Reader(StreamReaderAdapter):  # type: ignore[misc]  # amqtt ships no types
    """Reads from a client as long as it keeps its word."""

    def __init__(self, reader: asyncio.StreamReader, packet_limit_bytes: int) -> None:
        super().__init__(reader)
        self._packet_limit_bytes = packet_limit_bytes
        self._clock = asyncio.get_running_loop().time
        self._heard_at = self._clock()
        self._is_over = False
        self._put_back = b""
        self.patience_s: float | None = GREETING_LIMIT_S

    async def read(self, n: int = -1) -> bytes:
        # amqtt reads on after an error in the middle of a packet, from wherever it stands.
        if self._is_over or n > self._packet_limit_bytes:
            self._is_over = True
            raise ConnectionResetError
        data, self._put_back = bytearray(self._put_back[:n]), self._put_back[n:]
        while len(data) < n:
            data += await self._next_bytes(n - len(data))
        return bytes(data)

    async def speaks_mqtt_5(self) -> bool:
        """Whether the CONNECT packet, none of which has been read, is one of MQTT 5.

        Raises:
            ConnectionResetError: if the client goes, or says nothing.
        """
        # Type and flags, up to four bytes of length, the length of "MQTT", "MQTT", the level.
        head = await self.read(2)
        while head[-1] & 0x80 and len(head) < LONGEST_FIXED_HEADER:
            head += await self.read(1)
        protocol = await self.read(7)
        self._put_back = head + protocol
        return protocol == b"\x00\x04MQTT\x05"

    async def _next_bytes(self, limit: int) -> bytes:
        # amqtt cancels and repeats this after each keepalive without a byte, and does
        # nothing else about it; so the silence is measured from the last byte, not from here.
        until = None if self.patience_s is None else self._heard_at + self.patience_s
        chunk = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                chunk = await self._reader.read(limit)
        if not chunk:
            raise ConnectionResetError
        self._heard_at = self._clock()
        return chunk


class _Writer(StreamWriterAdapter):  # type: ignore[misc]  # amqtt ships no types
    """Writes to a client, and does not wait for ever for one that reads no more."""

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CLOSING_LIMIT_S):
                await super().close()


class _Broker(Broker):  # type: ignore[misc]  # amqtt ships no types
    """amqtt's broker on a socket that is bound already."""

    def __init__(self, listener: socket.socket, packet_limit_bytes: int) -> None:
        # amqtt wants an address; the socket has been bound to the true one.
        listeners = {"default": {"type": "tcp", "bind": "127.0.0.1:0"}}
        super().__init__({"listeners": listeners, "plugins": dict(_PLUGINS)})
        self._listener = listener
        self._packet_limit_bytes = packet_limit_bytes
        self._clients: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._serving: dict[str, asyncio.Task[Any]] = {}

    async def stop(self) -> None:
        """Let everybody go; nothing of this broker is left when it returns."""
        for server in self._servers.values():
            server.instance.close()  # or clients that come back at once are taken in again
        for session, _ in self._sessions.values():
            session.will_flag = False  # it is the broker that goes, not they
        # amqtt knows nothing of those who have not greeted, and would wait for their end.
        await self._dismiss(set(self._clients) - set(self._serving.values()))
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await self.shutdown()
        except TimeoutError:
            log.warning("broker.embedded.slow-stop", clients=len(self._clients))
        finally:
            await self._dismiss(set(self._clients))

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one client to its end, and leave nothing of it behind."""
        task = self._this_task()
        self._clients[task] = writer
        incoming = _Reader(reader, self._packet_limit_bytes)
        try:
            # This is the outermost frame of its task; asyncio reports a cancelled one as an error.
            with contextlib.suppress(asyncio.CancelledError, ConnectionResetError):
                if await incoming.speaks_mqtt_5():
                    # amqtt reads the properties of MQTT 5 as something else, and waits for more.
                    writer.write(VERSION_REFUSAL)
                    writer.write_eof()
                    # Closing before all is read would take the answer back.
                    await incoming.read(self._packet_limit_bytes)
                    return
                await self._client_connected(listener_name, incoming, _Writer(writer))
        finally:
            writer.transport.abort()
            del self._clients[task]
            for client_id in [name for name, served in self._serving.items() if served is task]:
                del self._serving[client_id]

    async def _create_server_instance(self, *_: object) -> asyncio.Server:
        serve = functools.partial(self.stream_connected, listener_name="default")
        return await asyncio.start_server(serve, sock=self._listener)

    async def _initialize_client_session(
        self, reader: _Reader, writer: _Writer, address: str, port: int
    ) -> tuple[Any, Any]:
        handler, session = await super()._initialize_client_session(reader, writer, address, port)
        reader.patience_s = session.keep_alive * KEEPALIVE_GRACE or None
        await self._evict(session.client_id)
        self._serving[session.client_id] = self._this_task()
        return handler, session

    async def _delete_session(self, client_id: str) -> None:
        await self._evict(client_id)
        await super()._delete_session(client_id)

    async def _evict(self, client_id: str) -> None:
        """Close the older connection of a client, and wait until its session is free."""
        task = self._serving.get(client_id)
        _, handler = self._sessions.get(client_id, (None, None))
        if task is not None and handler is not None:
            await handler.handle_connection_closed()
            await asyncio.wait({task}, timeout=CLOSING_LIMIT_S)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Any
    ) -> None:
        # amqtt calls this for a new client with the subscriptions of all clients, too.
        topic_filter, qos = subscription
        if (session, qos) not in self._subscriptions.get(topic_filter, ()):
            return
        handler = self._get_handler(session)
        for topic, retained in list(self._retained_messages.items()):
            if handler is not None and self._matches(topic, topic_filter):
                granted = min(qos, retained.qos or 0)
                sending = handler.mqtt_publish(topic, retained.data, granted, retain=True)
                # amqtt looks after this queue: it fetches results, and cancels at the end.
                self._tasks_queue.append(self._loop.create_task(sending))

    async def _dismiss(self, tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks:
            self._clients[task].transport.abort()
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_LIMIT_S)

    def _this_task(self) -> asyncio.Task[Any]:
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("called outside a task")
        return task
