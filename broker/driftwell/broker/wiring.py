"""Puts the socket of an aiomqtt client into the event loop, and takes it out in time.

Two rules, each for a leak or a hang that was measured:

1. A socket leaves the event loop before it is closed, whatever was cancelled when; a
   request to watch one that comes late finds it closed and does nothing.
2. Any byte counts as a sign of life, and no timer runs: aiomqtt's own wakes every client
   once a second, and calls a link dead after the event loop was busy for a while.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any, Final

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from driftwell.broker.connection import Will
from driftwell.broker.settings import BrokerSettings

RECEIVE_FLOOR: Final = 8  # deliveries under way, however small the inbox
RECEIVE_CEILING: Final = 65_535  # the protocol's own
SESSION_EXPIRY_S: Final = 7 * 86_400  # how long the broker keeps a persistent session

# What paho would log is in the reason of `broker.lost`, once and with its context.
_SILENT: Final = logging.getLogger("driftwell.broker.client")
_SILENT.setLevel(logging.CRITICAL + 1)


class WiredClient(aiomqtt.Client):
    """One connection as a socket: dialled, read, written, and closed for certain."""

    def __init__(
        self,
        *,
        settings: BrokerSettings,
        client_id: str,
        is_v5: bool,
        is_clean: bool,
        will: Will | None,
        tls: ssl.SSLContext | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if is_v5 else aiomqtt.ProtocolVersion.V311,
            will=aiomqtt.Will(will.topic, will.payload, will.qos, will.retain) if will else None,
            clean_session=None if is_v5 else is_clean,
            clean_start=is_clean if is_v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=_greeting(settings, is_clean=is_clean) if is_v5 else None,
            keepalive=settings.keepalive_s,
            tls_context=tls,
            logger=_SILENT,
        )
        self._client.connect_timeout = settings.connect_timeout_s
        self._clock = clock
        self._dialling: asyncio.Future[None] | None = None
        self.heard_at = self.said_at = clock()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        """Done when the connection is over; the result says why."""

    @property
    def has_dialled(self) -> bool:
        """Whether somebody at the other end took the connection."""
        return (
            self._dialling is not None
            and self._dialling.done()
            and self._dialling.exception() is None
        )

    def abandon(self, reason: str) -> None:
        """Close the socket without a word."""
        self._gone(reason)
        if self._dialling is None or self._dialling.done():
            self._client._sock_close()  # noqa: SLF001

    async def _dial(self) -> None:
        # In a thread, for it blocks; it cannot be cancelled, only left to clean up by itself.
        self._dialling = self._loop.run_in_executor(None, self._client_connect)
        self._dialling.add_done_callback(self._dialled)
        await asyncio.shield(self._dialling)

    def _dialled(self, dialling: asyncio.Future[None]) -> None:
        # Fetched, or asyncio reports the exception of an attempt that was given up.
        if not dialling.cancelled():
            dialling.exception()
        if self.closed.done():
            self._client._sock_close()  # noqa: SLF001

    def _gone(self, reason: str) -> None:
        if not self.closed.done():
            self.closed.set_result(reason)

    # What paho calls; while dialling, from the other thread.

    def _on_socket_open(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._read_from, sock)

    def _on_socket_register_write(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._write_to, sock)

    # What the event loop calls. A closed socket has no number, or already another's.

    def _read_from(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.add_reader(sock.fileno(), self._readable, sock)

    def _write_to(self, sock: Any) -> None:
        if sock.fileno() >= 0 and self._client.want_write():
            self._loop.add_writer(sock.fileno(), self._writable, sock)

    def _readable(self, sock: Any) -> None:
        self.heard_at = self._clock()
        try:
            self._client.loop_read()
            # What TLS has decrypted already does not make the socket readable again.
            while isinstance(sock, ssl.SSLSocket) and sock.fileno() >= 0 and sock.pending():
                self._client.loop_read()
        except Exception as error:  # noqa: BLE001  whatever it was, this connection is over
            self.abandon(f"cannot read: {error!r}")

    def _writable(self, sock: Any) -> None:
        try:
            self._client.loop_write()
        except Exception as error:  # noqa: BLE001  whatever it was, this connection is over
            self.abandon(f"cannot write: {error!r}")
        if sock.fileno() >= 0 and not self._client.want_write():
            self._loop.remove_writer(sock.fileno())


def _greeting(settings: BrokerSettings, *, is_clean: bool) -> Properties:
    """What an MQTT 5 broker is told to hold back for our sake, and to keep."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 0 if is_clean else SESSION_EXPIRY_S
    properties.MaximumPacketSize = settings.packet_limit_bytes
    fitting = settings.inbox_limit_bytes // settings.packet_limit_bytes
    properties.ReceiveMaximum = min(RECEIVE_CEILING, max(RECEIVE_FLOOR, fitting))
    return properties
