"""One MQTT connection: what is said on it, and what the broker answers.

Only this file and `wiring` import aiomqtt or paho. This one changes three of their ways,
each for a loss that was measured:

1. A message is acknowledged when the program says so, not when it arrives.
2. The broker's reason code for a publish reaches the caller.
3. Whoever waits for the broker is woken when the connection goes, not at his time limit.

An object serves for one connection; the next one takes a new object.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from driftwell.broker import reasons
from driftwell.broker.connection import Delivery, Will
from driftwell.broker.settings import BrokerSettings
from driftwell.broker.wiring import WiredClient

WINDOW: Final = 8  # publishes that the broker has not answered yet
GOODBYE_S: Final = 1.0


class LostError(Exception):
    """There is no connection, or no longer; another attempt may succeed."""


class RefusedError(LostError):
    """The broker answered the greeting with a reason code that means no."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class VersionError(RefusedError):
    """The broker does not speak this version of MQTT."""


class UnansweredError(LostError):
    """Somebody took the connection and did not answer the greeting."""


class Client(WiredClient):
    """One connection as a conversation, from the greeting to the goodbye."""

    def __init__(
        self,
        *,
        settings: BrokerSettings,
        client_id: str,
        is_v5: bool,
        is_clean: bool,
        will: Will | None,
        tls: ssl.SSLContext | None,
        receive: Callable[[Delivery], None],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(
            settings=settings,
            client_id=client_id,
            is_v5=is_v5,
            is_clean=is_clean,
            will=will,
            tls=tls,
            clock=clock,
        )
        self._client.manual_ack_set(True)
        self._limit_s = settings.connect_timeout_s
        self._receive = receive
        self._greeted: asyncio.Future[RefusedError | None] = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        self._unanswered: set[int] = set()
        self._window = asyncio.Semaphore(WINDOW)
        self.packet_limit_bytes = settings.packet_limit_bytes
        self.keepalive_s = settings.keepalive_s

    async def open(self) -> None:
        """Connect, and wait for the broker's word.

        Raises:
            LostError: if there is no connection; a subclass if the broker's answer says why.
        """
        # aiomqtt's own way in leaves a half-made socket behind when it is cancelled.
        try:
            async with asyncio.timeout(self._limit_s):
                await self._dial()
                await self._first_of(self._greeted)
        except TimeoutError:
            kind = UnansweredError if self.has_dialled else LostError
            raise kind(f"no answer within {self._limit_s:g} s") from None
        except (OSError, ValueError) as error:
            raise LostError(str(error)) from None
        if not self._greeted.done():
            raise UnansweredError(self.closed.result())
        if refusal := self._greeted.result():
            raise refusal

    async def subscribe_all(self, filters: tuple[tuple[str, int], ...]) -> list[str]:
        """Subscribe in one packet, and return those filters that the broker refused.

        Raises:
            LostError: if the connection goes first, or no answer comes.
        """
        _, mid = self._client.subscribe(list(filters))
        codes = None
        if mid is not None:
            try:
                async with asyncio.timeout(self._limit_s):
                    codes = await self._answer(mid)
            except TimeoutError:
                pass
        if codes is None or len(codes) != len(filters):
            raise LostError("no answer to the subscription")
        answered = zip(filters, codes, strict=True)
        return [topic for (topic, _), code in answered if code >= reasons.FAILURE]

    async def hand_over(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int | None:
        """Give a message to the socket when the window has room; None if it is gone.

        The place in the window is free again when the broker has answered, not when the
        caller has lost patience: a slow broker never holds more than a window of messages.
        """
        await self._window.acquire()
        mid = None
        try:
            if not self.closed.done():
                mid = self._publish(topic, payload, qos, retain=retain)
        finally:
            if mid is None:
                self._window.release()
            else:
                self._unanswered.add(mid)
        return mid

    async def answer(self, mid: int) -> int | None:
        """The reason code for a message that was handed over; None if the connection went."""
        codes = await self._answer(mid)
        return None if codes is None else codes[0]

    def echo(self, topic: str) -> None:
        """Send an empty message that nobody waits for."""
        self._publish(topic, b"", 0, retain=False)

    def ping(self) -> None:
        """Ask the protocol's own question."""
        self.said_at = self._clock()
        self._client._send_pingreq()  # noqa: SLF001

    async def close(self) -> None:
        """Say goodbye if somebody listens; then the socket is closed for certain."""
        try:
            if self._greeted.done() and not self._greeted.result() and not self.closed.done():
                self._client.disconnect()
                await asyncio.wait({self.closed}, timeout=GOODBYE_S)
        finally:
            self.abandon("closed")

    def _gone(self, reason: str) -> None:
        super()._gone(reason)
        # Each of those who wait for room finds the connection gone and wakes the next one.
        self._window.release()

    def _publish(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> int | None:
        info = self._client.publish(topic, payload, qos, retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        self.said_at = self._clock()
        return info.mid

    async def _answer(self, mid: int) -> list[int] | None:
        answer = self._answers[mid] = self._loop.create_future()
        try:
            await self._first_of(answer)
            return answer.result() if answer.done() else None
        finally:
            del self._answers[mid]

    async def _first_of(self, awaited: asyncio.Future[Any]) -> None:
        either: set[asyncio.Future[Any]] = {awaited, self.closed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def _settle(self, mid: int, codes: list[ReasonCode]) -> None:
        if mid in self._unanswered:
            self._unanswered.remove(mid)
            self._window.release()
        answer = self._answers.get(mid)
        if answer is not None and not answer.done():
            answer.set_result([code.value for code in codes])

    def _acknowledgement(self, message: paho.MQTTMessage) -> Callable[[], None]:
        # Emptied by the first call: the number belongs to another message soon after.
        numbers = [message.mid] if message.qos else []

        def acknowledge() -> None:
            if numbers and not self.closed.done():
                self.said_at = self._clock()
                self._client.ack(numbers.pop(), message.qos)

        return acknowledge

    # What paho calls.

    def _on_connect(
        self,
        _client: Any,
        _userdata: Any,
        _flags: Any,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._greeted.done():
            return
        if reason_code.is_failure:
            kind = VersionError if reason_code.value == reasons.VERSION_UNKNOWN else RefusedError
            self._greeted.set_result(kind(reason_code.value, str(reason_code).lower()))
            return
        # A property that the broker did not send is not there, and 3.1.1 has none.
        limit = getattr(properties, "MaximumPacketSize", self.packet_limit_bytes)
        self.packet_limit_bytes = min(self.packet_limit_bytes, limit)
        keepalive = getattr(properties, "ServerKeepAlive", 0) or self.keepalive_s
        self.keepalive_s = min(self.keepalive_s, keepalive)
        self._window = asyncio.Semaphore(min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW)))
        self._greeted.set_result(None)

    def _on_disconnect(
        self,
        _client: Any,
        _userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        _properties: Properties | None = None,
    ) -> None:
        told = flags.is_disconnect_packet_from_server
        self._gone(str(reason_code).lower() if told else "the connection was closed")

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        acknowledge = self._acknowledgement(message)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            # Nobody of ours sent it. Left unacknowledged it would come back for ever.
            acknowledge()
            return
        payload = bytes(message.payload)
        self._receive(Delivery(topic, payload, message.qos, message.retain, acknowledge))

    def _on_publish(
        self, _client: Any, _userdata: Any, mid: int, reason_code: ReasonCode, _properties: Any
    ) -> None:
        self._settle(mid, [reason_code])

    def _on_subscribe(
        self,
        _client: Any,
        _userdata: Any,
        mid: int,
        reason_codes: list[ReasonCode],
        _properties: Any = None,
    ) -> None:
        self._settle(mid, reason_codes)
