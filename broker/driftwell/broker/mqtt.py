"""The port over MQTT: when to connect, which version to speak, when to give a link up.

The sockets are the business of `client`; what the codes mean is the table in `reasons`.
The epoch is announced after the subscriptions stand, so that whoever waits for it misses
no answer. What a lost connection had delivered stays in the inbox: it may come twice, which
the program expects anyway, and it is never lost with a session that the broker forgot.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog

from driftwell.broker import reasons
from driftwell.broker.backoff import Backoff
from driftwell.broker.client import (
    WINDOW,
    Client,
    LostError,
    RefusedError,
    UnansweredError,
    VersionError,
)
from driftwell.broker.connection import (
    Delivery,
    Publication,
    Traffic,
    Will,
    publish_packet_size,
)
from driftwell.broker.dialect import Dialect
from driftwell.broker.link import Link
from driftwell.broker.liveness import Verdict, judge
from driftwell.broker.settings import BrokerSettings
from driftwell.broker.tls import tls_context
from driftwell.messages.errors import BrokerError

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

LOOKS_PER_KEEPALIVE: Final = 10  # how often the link is looked at
STEADY_S: Final = 30.0  # a connection that lasted so long was no failure


class MqttConnection:
    """One program's link to an MQTT broker; see `Connection` for what it promises."""

    def __init__(
        self,
        *,
        settings: BrokerSettings,
        client_id: str,
        subscriptions: tuple[tuple[str, int], ...],
        will: Will | None,
        clean: bool,
        echo_topic: str | None,
        backoff: Backoff,
        uniform: Callable[[float, float], float],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._subscriptions = subscriptions
        self._will = will
        self._clean = clean
        self._echo_topic = echo_topic
        self._backoff = backoff
        self._uniform = uniform
        self._clock = clock
        self._link = Link(settings.inbox_limit_bytes)
        self._dialect = Dialect()
        self._client: Client | None = None
        self._unanswered = 0  # publishes in a row
        self._up_at = 0.0

    @property
    def epoch(self) -> int:
        """Which connection this is: 0 before the first, then 1, 2, ..."""
        return self._link.epoch

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there at this moment, as far as one can know."""
        return self._link.is_connected

    @property
    def traffic(self) -> Traffic:
        """Counters since the program started."""
        return self._link.traffic

    async def next_epoch(self, after: int) -> int:
        """Wait for a connection later than `after` and return its epoch."""
        return await self._link.next_epoch(after)

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Every delivery of every connection, in order of arrival. One reader only."""
        return self._link.deliveries()

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> Publication:
        """Publish, and say what became of it. Never raises for the network's sake.

        With QoS 0 `ACKED` means that the socket took all of it: nobody else answers.
        """
        client = self._client
        limit = client.packet_limit_bytes if client else self._settings.packet_limit_bytes
        size = self._packet_size(topic, payload, qos)
        if size > limit:
            return self._link.answer(reasons.TOO_LARGE)
        if client is None:
            return reasons.NOT_CONNECTED
        try:
            async with asyncio.timeout(self._settings.ack_timeout_s):
                mid = await client.hand_over(topic, payload, qos=qos, retain=retain)
                if mid is None:
                    return reasons.NOT_CONNECTED
                self._link.sent(size)
                code = await client.answer(mid)
        except TimeoutError:
            self._missed_answer(client)
            return reasons.TIMED_OUT
        self._unanswered = 0
        if code is None:
            return reasons.DISCONNECTED
        return self._link.answer(reasons.publication(code))

    async def run(self) -> None:
        """Stay connected until cancelled; on cancellation disconnect in good order.

        Raises:
            BrokerError: if the broker refuses us for good, or a certificate cannot be read.
        """
        tls = await asyncio.to_thread(tls_context, self._settings)
        failures = 0
        while True:
            spoken, epoch = self._dialect, self._link.epoch
            reason = await self._connect_once(tls)
            if spoken.is_v5 and not self._dialect.is_v5:
                continue  # the older version is worth a try before any wait
            lasted = epoch < self._link.epoch and self._clock() - self._up_at >= STEADY_S
            failures = 1 if lasted else failures + 1
            delay_s = self._backoff.delay_s(failures, self._uniform)
            log.warning(
                "broker.lost",
                broker=repr(self._settings),
                reason=reason,
                failures=failures,
                delay_s=round(delay_s, 3),
            )
            await asyncio.sleep(delay_s)

    async def _connect_once(self, tls: ssl.SSLContext | None) -> str:
        """Live through one connection; returns why it ended."""
        client = Client(
            settings=self._settings,
            client_id=self._client_id,
            is_v5=self._dialect.is_v5,
            is_clean=self._clean,
            will=self._will,
            tls=tls,
            receive=self._receive,
            clock=self._clock,
        )
        self._link.dialled()
        try:
            await self._greet(client)
            return await self._watch(client)
        except LostError as error:
            return str(error)
        finally:
            self._client = None
            self._link.down()
            await client.close()

    async def _greet(self, client: Client) -> None:
        """Connect, subscribe, and only then tell the program."""
        try:
            await client.open()
        except VersionError:
            self._dialect = self._dialect.refused()
            raise
        except RefusedError as refusal:
            self._give_up(refusal)
            raise
        except UnansweredError:
            self._dialect = self._dialect.unanswered()
            raise
        self._dialect = self._dialect.accepted()
        await self._subscribe(client)
        self._client = client
        self._unanswered = 0
        self._up_at = self._clock()
        log.info(
            "broker.connected",
            broker=repr(self._settings),
            epoch=self._link.up(),
            mqtt="5" if self._dialect.is_v5 else "3.1.1",
        )

    def _give_up(self, refusal: RefusedError) -> None:
        """Raise what only the operator can mend."""
        if advice := reasons.connect_advice(refusal.code):
            text = f"{self._settings!r} refuses {self._client_id!r}: {advice}"
            raise BrokerError(text) from None

    async def _subscribe(self, client: Client) -> None:
        echo = ((self._echo_topic, 0),) if self._echo_topic else ()
        if not (filters := self._subscriptions + echo):
            return
        refused = await client.subscribe_all(filters)
        if wanted := [topic for topic in refused if topic != self._echo_topic]:
            raise BrokerError(
                f"{self._settings!r} does not let {self._client_id!r} subscribe to {wanted[0]!r}; "
                "allow it in the broker's access list"
            )

    async def _watch(self, client: Client) -> str:
        """Look after one connection until it ends; returns why it did."""
        asked_at = self._clock()
        while not client.closed.done():
            timeout = client.keepalive_s / LOOKS_PER_KEEPALIVE
            await asyncio.wait({client.closed}, timeout=timeout)
            if self._link.wants_redelivery:
                return "the inbox was full and is empty again: asking for what did not fit"
            now = self._clock()
            verdict = judge(
                silent_s=now - client.heard_at,
                quiet_s=now - client.said_at,
                asked_s=now - asked_at,
                keepalive_s=client.keepalive_s,
            )
            if verdict is Verdict.FINE:
                continue
            asked_at = now
            self._ask(client, verdict)
        return client.closed.result()

    def _ask(self, client: Client, verdict: Verdict) -> None:
        match verdict:
            case Verdict.GONE:
                client.abandon("nothing heard for 2.5 keepalives")
            case Verdict.ECHO if self._echo_topic:
                client.echo(self._echo_topic)
            case _:
                client.ping()

    def _missed_answer(self, client: Client) -> None:
        # Pings come back and publishes are not answered: only a new connection mends that.
        self._unanswered += 1
        if self._unanswered >= WINDOW:
            client.abandon(f"the last {WINDOW} publishes were not answered")

    def _receive(self, delivery: Delivery) -> None:
        if delivery.topic != self._echo_topic:
            size = self._packet_size(delivery.topic, delivery.payload, delivery.qos)
            self._link.received(delivery, size)

    def _packet_size(self, topic: str, payload: bytes, qos: int) -> int:
        # MQTT 5 adds the length of its properties, of which we send none.
        return publish_packet_size(topic, payload, qos) + self._dialect.is_v5
