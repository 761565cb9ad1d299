"""Pure. Every topic, with its direction, QoS and retain flag, as one table.

`driftwell/v1/<group>/<device>/<kind>`, and for the head of a cohort
`driftwell/v1/<group>/_/head/<cohort>`; the head of a domain has its number as one level more.
No other module writes a topic by hand.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from driftwell.messages.errors import MalformedError
from driftwell.messages.names import (
    EVERYONE,
    is_cohort_name,
    is_name,
    require_cohort_name,
    require_name,
    split_domain,
)

ROOT: Final = "driftwell/v1"
TOPIC_LIMIT: Final = 200  # bytes; AWS IoT Core allows 256


class Kind(StrEnum):
    """What a topic carries."""

    STATE = "state"
    TELEMETRY = "telemetry"
    SAMPLES = "samples"
    UPDATE = "update"
    EVENT = "event"
    PREDICTIONS = "predictions"
    ACK = "ack"
    HEAD = "head"
    SUBMODEL = "submodel"
    FETCH = "fetch"
    BLOB = "blob"
    ECHO = "echo"
    STREAM = "stream"


class Direction(StrEnum):
    """Who publishes a kind."""

    UP = "edge to cloud"
    DOWN = "cloud to edge"
    SELF = "a program to itself"
    KEPT = "into recordings only"


@dataclass(frozen=True, slots=True)
class Route:
    """How one kind travels."""

    direction: Direction
    qos: int
    retain: bool


_KINDS: Final = frozenset(str(kind) for kind in Kind)

ROUTES: Final = MappingProxyType(
    {
        Kind.STATE: Route(Direction.UP, qos=1, retain=True),
        Kind.TELEMETRY: Route(Direction.UP, qos=0, retain=False),
        Kind.SAMPLES: Route(Direction.UP, qos=1, retain=False),
        Kind.UPDATE: Route(Direction.UP, qos=1, retain=False),
        Kind.EVENT: Route(Direction.UP, qos=1, retain=False),
        Kind.PREDICTIONS: Route(Direction.UP, qos=0, retain=False),
        Kind.ACK: Route(Direction.DOWN, qos=1, retain=False),
        Kind.HEAD: Route(Direction.DOWN, qos=1, retain=True),
        Kind.SUBMODEL: Route(Direction.DOWN, qos=1, retain=True),
        Kind.FETCH: Route(Direction.UP, qos=1, retain=False),
        Kind.BLOB: Route(Direction.DOWN, qos=1, retain=False),
        Kind.ECHO: Route(Direction.SELF, qos=0, retain=False),
        Kind.STREAM: Route(Direction.KEPT, qos=0, retain=False),
    }
)


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed topic: whose it is and what it carries."""

    group: str
    device: str
    kind: Kind
    cohort: str = ""


def device_topic(group: str, device: str, kind: Kind) -> str:
    """The topic on which `device` of `group` exchanges messages of `kind`.

    Raises:
        SettingsError: if a name is not a valid name.
    """
    require_name(group, what="group")
    require_name(device, what="device")
    return f"{ROOT}/{group}/{device}/{kind}"


def cohort_head_topic(group: str, name: str) -> str:
    """The topic of the head that all devices of a cohort share, or of one of its domains.

    Raises:
        SettingsError: if a name is not a valid name.
    """
    require_name(group, what="group")
    require_cohort_name(name, what="cohort")
    return f"{ROOT}/{group}/{EVERYONE}/{Kind.HEAD}/{name}"


def own_head_topic(group: str, name: str) -> str:
    """The topic of the head of a device that shares no cohort, or of one of its domains.

    Raises:
        SettingsError: if a name is not a valid name.
    """
    device, domain = split_domain(require_cohort_name(name, what="device"))
    topic = device_topic(group, device, Kind.HEAD)
    return f"{topic}/{domain}" if domain else topic


def domain_heads(topic: str) -> str:
    """The subscription that selects the heads of all further domains of a head's topic."""
    return f"{topic}/+"


def kind_filter(group: str, kind: Kind) -> str:
    """The subscription that selects `kind` of every device of `group`."""
    require_name(group, what="group")
    return f"{ROOT}/{group}/+/{kind}"


def parse_topic(topic: str) -> Address:
    """Read a topic back.

    Raises:
        MalformedError: if it is not one of ours.
    """
    # What matches below is ASCII, so its characters are its bytes.
    if len(topic) <= TOPIC_LIMIT and topic.startswith(ROOT + "/"):
        match topic[len(ROOT) + 1 :].split("/"):
            case [group, "_", Kind.HEAD, cohort] if is_name(group) and is_name(cohort):
                return Address(group, EVERYONE, Kind.HEAD, cohort)
            case [group, "_", Kind.HEAD, cohort, domain] if is_name(group) and is_cohort_name(
                f"{cohort}/{domain}"
            ):
                return Address(group, EVERYONE, Kind.HEAD, f"{cohort}/{domain}")
            case [group, device, Kind.HEAD, domain] if is_name(group) and is_cohort_name(
                f"{device}/{domain}"
            ):
                return Address(group, device, Kind.HEAD, f"{device}/{domain}")
            case [group, device, kind] if is_name(group) and is_name(device) and kind in _KINDS:
                return Address(group, device, Kind(kind))
    raise MalformedError(f"topic {topic[:TOPIC_LIMIT]!r} is not one of ours")
