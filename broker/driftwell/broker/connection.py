"""Pure. The port every program talks through: what a connection promises, not how.

Rules, whichever implementation stands behind it:

1. A connection lives as long as the program; `run()` reconnects until it is cancelled.
2. `publish` tells the truth: `ACKED` only when the broker took responsibility, `SPOOLED`
   when nobody knows (the caller still holds the message and offers it again), `REFUSED`
   when sending the same bytes again cannot help.
3. A delivery is acknowledged by the program, after the program has stored what it needs.
   What was not acknowledged comes again on the next connection, if the broker keeps it.
4. Nothing is queued without bound: what is over the limit is left unacknowledged and counted.
"""

import enum
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol


class Outcome(enum.Enum):
    """What became of a publish."""

    ACKED = "acked"
    SPOOLED = "spooled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Publication:
    """The answer to one publish; `reason` is empty unless it was refused or spooled."""

    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection dies."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message from the broker.

    `acknowledge` is called once, when the program needs no second delivery. Calling it
    after the connection that delivered the message is gone does nothing.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    acknowledge: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over the connection since the program started."""

    bytes_up: int = 0
    """Whole PUBLISH packets sent: header, topic, payload; repeats count again."""
    bytes_down: int = 0
    """Whole PUBLISH packets received."""
    connects: int = 0
    refused: int = 0
    overflowed: int = 0
    """Deliveries left unacknowledged because the inbox was full."""


class Connection(Protocol):
    """A program's one link to the broker."""

    @property
    def epoch(self) -> int:
        """Which connection this is: 0 before the first, then 1, 2, ..."""

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there at this moment, as far as one can know."""

    @property
    def traffic(self) -> Traffic:
        """Counters since the program started."""

    async def run(self) -> None:
        """Stay connected until cancelled; on cancellation disconnect in good order.

        Raises:
            BrokerError: only for what trying again cannot mend, such as bad credentials.
        """

    async def next_epoch(self, after: int) -> int:
        """Wait for a connection later than `after` and return its epoch."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> Publication:
        """Publish, and say what became of it. Never raises for the network's sake."""

    def deliveries(self) -> AsyncIterator[Delivery]:
        """Every delivery of every connection, in order of arrival. One reader only."""


def publish_packet_size(topic: str, payload: bytes, qos: int) -> int:
    """Bytes of the MQTT 3.1.1 PUBLISH packet (MQTT 5 adds one for its empty properties)."""
    remaining = 2 + len(topic.encode()) + (2 if qos else 0) + len(payload)
    length_bytes = 1
    while remaining >= 128**length_bytes:
        length_bytes += 1
    return 1 + length_bytes + remaining
