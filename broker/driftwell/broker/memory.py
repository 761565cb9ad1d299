"""A broker in memory and the connection to it, to run whole programs without a network.

No sockets, no threads: a publish is routed before it returns, and a time limit is reached
only where a test holds something back. The same contract tests run against this
and against real brokers. Like a broker with persistence, `stop` and `start` keep sessions
and retained messages; the connections are lost, and no wills are sent.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from driftwell.broker import reasons
from driftwell.broker.backoff import Backoff
from driftwell.broker.connection import (
    Delivery,
    Publication,
    Traffic,
    Will,
    publish_packet_size,
)
from driftwell.broker.filters import matches
from driftwell.broker.link import Link
from driftwell.broker.settings import BrokerSettings

NOWHERE: Final = BrokerSettings(host="memory", port=0)
QUEUE_LIMIT: Final = 20_000  # messages per session; what comes then is dropped
AT_ONCE: Final = Backoff(first_s=0.001)
LOOK_S: Final = 0.02  # how often a connection looks whether its inbox wants a new one


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(slots=True)
class _Session:
    """What the broker knows about one client identifier."""

    filters: dict[str, int] = field(default_factory=dict)
    unacknowledged: dict[int, _Message] = field(default_factory=dict)
    """In the order of their numbers: delivered or waiting for the client to come back."""
    connection: "MemoryConnection | None" = None
    is_clean: bool = True
    last_number: int = 0


class MemoryBroker:
    """The broker, with the controls that a test needs to be unkind."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._retained: dict[str, _Message] = {}
        self._denied: list[str] = []
        self._duplicates_left = 0
        self._started = asyncio.Event()
        self._started.set()
        self.holds_acks = False
        """While true, publishes are routed and never answered: nobody knows."""

    @property
    def is_up(self) -> bool:
        """Whether it takes connections."""
        return self._started.is_set()

    @property
    def retained(self) -> dict[str, bytes]:
        """The retained messages, by topic."""
        return {topic: message.payload for topic, message in self._retained.items()}

    def stop(self) -> None:
        """Go away: every connection is lost, and no new one is made."""
        self._started.clear()
        for session in self._sessions.values():
            if session.connection is not None:
                self._detach(session)

    def start(self) -> None:
        """Come back."""
        self._started.set()

    def deny(self, topic_filter: str) -> None:
        """From now on refuse publishes to these topics."""
        self._denied.append(topic_filter)

    def duplicate_next(self, count: int) -> None:
        """Deliver each of the next `count` QoS 1 publishes twice."""
        self._duplicates_left += count

    async def started(self) -> None:
        """Wait until it takes connections."""
        await self._started.wait()

    def attach(
        self,
        connection: "MemoryConnection",
        client_id: str,
        subscriptions: tuple[tuple[str, int], ...],
        *,
        clean: bool,
    ) -> None:
        """Take a client in: an older connection of that name goes, its backlog comes first."""
        old = self._sessions.get(client_id)
        if old is not None and old.connection is not None:
            self.lose(old.connection)
        session = _Session() if clean or old is None or old.is_clean else old
        session.is_clean = clean
        session.connection = connection
        self._sessions[client_id] = session
        for number, message in list(session.unacknowledged.items()):
            self._hand(session, number, message)
        for topic_filter, qos in subscriptions:
            session.filters[topic_filter] = qos
            for message in list(self._retained.values()):
                if matches(topic_filter, message.topic):
                    self._deliver(session, message, qos, retain=True)

    def leave(self, connection: "MemoryConnection") -> None:
        """A client says goodbye: its will is forgotten."""
        for session in self._sessions.values():
            if session.connection is connection:
                self._detach(session)

    def lose(self, connection: "MemoryConnection") -> None:
        """A client vanishes: its will is published."""
        self.leave(connection)
        if (will := connection.will) is not None:
            self.route(_Message(will.topic, will.payload, will.qos, will.retain))

    def publish(self, message: _Message) -> Publication:
        """Take a publish from a client, or refuse it; a refused QoS 0 just vanishes."""
        if any(matches(denied, message.topic) for denied in self._denied):
            return reasons.DENIED if message.qos else reasons.ACKED
        self.route(message)
        return reasons.ACKED

    def route(self, message: _Message) -> None:
        """Deliver to whoever subscribed, once per subscription, and retain if asked to."""
        if message.retain and message.payload:
            self._retained[message.topic] = message
        elif message.retain:
            self._retained.pop(message.topic, None)
        times = 1
        if message.qos and self._duplicates_left:
            self._duplicates_left -= 1
            times = 2
        for session in list(self._sessions.values()):
            for topic_filter, qos in session.filters.items():
                if matches(topic_filter, message.topic):
                    for _ in range(times):
                        self._deliver(session, message, qos, retain=False)

    def acknowledge(self, client_id: str, number: int) -> None:
        """A client needs this message no more."""
        self._sessions[client_id].unacknowledged.pop(number, None)

    def _deliver(self, session: _Session, message: _Message, qos: int, *, retain: bool) -> None:
        qos = min(qos, message.qos)
        if session.connection is None and (session.is_clean or not qos):
            return
        if len(session.unacknowledged) >= QUEUE_LIMIT:
            return
        session.last_number += 1
        delivered = _Message(message.topic, message.payload, qos, retain)
        if qos:
            session.unacknowledged[session.last_number] = delivered
        self._hand(session, session.last_number, delivered)

    def _hand(self, session: _Session, number: int, message: _Message) -> None:
        if session.connection is not None:
            session.connection.receive(number, message)

    def _detach(self, session: _Session) -> None:
        connection, session.connection = session.connection, None
        if connection is not None:
            connection.lost()


class MemoryConnection:
    """One program's link to a `MemoryBroker`; see `Connection` for what it promises.

    It takes what `MqttConnection` takes, so that one factory makes either. It subscribes
    to no echo and reads no clock, for in memory nothing goes silent.
    """

    def __init__(
        self,
        *,
        broker: MemoryBroker,
        client_id: str,
        subscriptions: tuple[tuple[str, int], ...],
        will: Will | None = None,
        clean: bool = True,
        echo_topic: str | None = None,
        backoff: Backoff = AT_ONCE,
        uniform: Callable[[float, float], float] = max,
        clock: Callable[[], float] | None = None,
        settings: BrokerSettings = NOWHERE,
    ) -> None:
        del echo_topic, clock
        self._broker = broker
        self._client_id = client_id
        self._subscriptions = subscriptions
        self.will = will
        self._clean = clean
        self._backoff = backoff
        self._uniform = uniform
        self._settings = settings
        self._link = Link(settings.inbox_limit_bytes)
        self._closed: asyncio.Future[None] | None = None

    @property
    def epoch(self) -> int:
        """Which connection this is: 0 before the first, then 1, 2, ..."""
        return self._link.epoch

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there."""
        return self._link.is_connected

    @property
    def traffic(self) -> Traffic:
        """Counters since the program started, as over MQTT 3.1.1."""
        return self._link.traffic

    async def next_epoch(self, after: int) -> int:
        """Wait for a connection later than `after` and return its epoch."""
        return await self._link.next_epoch(after)

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Every delivery of every connection, in order of arrival. One reader only."""
        return self._link.deliveries()

    async def run(self) -> None:
        """Stay connected until cancelled; on cancellation disconnect in good order."""
        while True:
            await self._broker.started()
            await self._connect_once()
            await asyncio.sleep(self._backoff.delay_s(1, self._uniform))

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> Publication:
        """Publish, and say what became of it."""
        size = publish_packet_size(topic, payload, qos)
        if size > self._settings.packet_limit_bytes:
            return self._link.answer(reasons.TOO_LARGE)
        closed = self._closed
        if closed is None or closed.done():
            return reasons.NOT_CONNECTED
        self._link.sent(size)
        publication = self._broker.publish(_Message(topic, payload, qos, retain))
        if qos and self._broker.holds_acks:
            done, _ = await asyncio.wait({closed}, timeout=self._settings.ack_timeout_s)
            return reasons.DISCONNECTED if done else reasons.TIMED_OUT
        await asyncio.sleep(0)
        return self._link.answer(publication)

    def drop(self) -> None:
        """Vanish without a goodbye; `run` connects again after its backoff."""
        if self._link.is_connected:
            self._broker.lose(self)

    def lost(self) -> None:
        """The broker has closed the connection."""
        self._link.down()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def receive(self, number: int, message: _Message) -> None:
        """The broker delivers a message."""
        closed = self._closed

        def acknowledge() -> None:
            if message.qos and closed is not None and not closed.done():
                self._broker.acknowledge(self._client_id, number)

        delivery = Delivery(
            message.topic, message.payload, message.qos, message.retain, acknowledge
        )
        size = publish_packet_size(message.topic, message.payload, message.qos)
        self._link.received(delivery, size)

    async def _connect_once(self) -> None:
        closed = self._closed = asyncio.get_running_loop().create_future()
        self._link.dialled()
        self._broker.attach(self, self._client_id, self._subscriptions, clean=self._clean)
        self._link.up()
        try:
            while not closed.done() and not self._link.wants_redelivery:
                await asyncio.wait({closed}, timeout=LOOK_S)
        finally:
            self._broker.leave(self)
