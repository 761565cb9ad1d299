"""Pure. Under which names a recorded message is told again.

A device may be renamed, and may be played by several. Every player has sessions of its own,
made from the recorded ones: one session stays one session, and no cloud takes a replay for
a repetition of what it has seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from driftwell.messages.ack import Ack
from driftwell.messages.codec import Message, decode_on_topic, encode
from driftwell.messages.digest import digest_bytes
from driftwell.messages.errors import MalformedError, RefusalCode, SettingsError
from driftwell.messages.head import Head
from driftwell.messages.names import EVERYONE, require_name
from driftwell.messages.topics import (
    ROUTES,
    Address,
    Direction,
    Kind,
    device_topic,
    parse_topic,
)
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage

SESSION_DIGITS: Final = 16
CLONE_DIGITS: Final = 3
MAX_CLONES: Final = 10_000
UPWARD: Final = tuple(kind for kind, route in ROUTES.items() if route.direction is Direction.UP)
"""What devices say."""
TRAVELLING: Final = (
    *UPWARD,
    *(kind for kind, route in ROUTES.items() if route.direction is Direction.DOWN),
)
"""What devices and clouds say to each other."""

Roles = Mapping[str, tuple[str, ...]]
"""Each recorded device, and who plays it."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message, ready to publish."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


def cast_roles(devices: Sequence[str], renames: Iterable[str], clones: int) -> Roles:
    """Who plays each device.

    Args:
        devices: Those that are played.
        renames: `old=new`, as `--rename` takes them.
        clones: How many play each; 1: the device itself, more: `cam-1-001`, `cam-1-002`, ...

    Raises:
        SettingsError: if a device is not there, or a name is invalid or given twice.
    """
    if not 1 <= clones <= MAX_CLONES:
        raise SettingsError(f"--clone {clones} is not possible; use 1 to {MAX_CLONES}")
    named = _renamed(devices, renames)
    roles = {old: _clones(new, clones) for old, new in named.items()}
    players: dict[str, str] = {}
    for old, names in roles.items():
        for name in names:
            require_name(name, what=f"{old} replayed as")
            if name in players:
                raise SettingsError(
                    f"{players[name]} and {old} would both be {name!r}; choose another --rename"
                )
            players[name] = old
    return roles


def rewrite(message: RecordedMessage, roles: Roles, *, salt: str | None) -> list[Outgoing]:
    """What goes out in the place of a recorded message, one for each player of its device.

    Args:
        message: As recorded.
        roles: Who plays whom; a device that is not in it plays itself.
        salt: Makes the sessions of this pass different from any other's; None keeps them.

    Raises:
        WireError: if the message breaks its own rules, or cannot be told by another.
    """
    address = parse_topic(message.topic)
    route = ROUTES[address.kind]
    names = roles.get(address.device, (address.device,))
    if address.kind is Kind.PREDICTIONS:  # JSON that names nobody
        payloads = [message.payload] * len(names)
    else:
        payloads = _payloads(message, names, salt)
    return [
        Outgoing(_topic(message.topic, address, name), payload, route.qos, route.retain)
        for name, payload in zip(names, payloads, strict=True)
    ]


def new_session(salt: str, device: str, session: str) -> str:
    """The session a player has where the recorded device had `session`."""
    return digest_bytes(f"{salt}/{device}/{session}".encode())[:SESSION_DIGITS]


def _renamed(devices: Sequence[str], renames: Iterable[str]) -> dict[str, str]:
    named = {device: device for device in devices}
    for rename in renames:
        old, equals, new = rename.partition("=")
        if not equals:
            raise SettingsError(f"--rename takes old=new, not {rename!r}")
        if old not in named:
            raise SettingsError(f"--rename: no device {old!r} is replayed; {known(devices)}")
        if named[old] != old:
            raise SettingsError(f"--rename: {old} is renamed twice")
        named[old] = require_name(new, what="--rename: device")
    return named


def known(names: Iterable[str]) -> str:
    """What there is, for the text of an error."""
    return f"there are: {', '.join(sorted(names)) or 'none'}"


def _clones(name: str, count: int) -> tuple[str, ...]:
    if count == 1:
        return (name,)
    digits = max(CLONE_DIGITS, len(str(count)))
    return tuple(f"{name}-{number:0{digits}d}" for number in range(1, count + 1))


def _topic(recorded: str, address: Address, name: str) -> str:
    if address.device in {name, EVERYONE}:
        return recorded
    return device_topic(address.group, name, address.kind)


def _payloads(message: RecordedMessage, names: Sequence[str], salt: str | None) -> list[bytes]:
    _, decoded = decode_on_topic(message.topic, message.payload, limit_bytes=MAX_MESSAGE)
    payloads = []
    for name in names:
        changes = _changes(decoded, name, salt)
        if not changes:  # byte for byte, with whatever a later minor version added
            payloads.append(message.payload)
            continue
        if isinstance(decoded, Head) and "device" in changes:
            raise MalformedError(
                "a version is signed for one device and cannot be told to another",
                RefusalCode.NOT_SUPPORTED,
            )
        changed = msgspec.structs.replace(decoded, **changes)
        payloads.append(encode(changed, limit_bytes=MAX_MESSAGE))
    return payloads


def _changes(message: Message, name: str, salt: str | None) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if name != message.device:
        changes["device"] = name
        if getattr(message, "cohort", None) == message.device:
            changes["cohort"] = name
    if salt is not None:
        changes["session"] = new_session(salt, name, message.session)
        if isinstance(message, Ack):
            changes["of_session"] = new_session(salt, name, message.of_session)
    return changes
