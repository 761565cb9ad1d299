"""Pure. What of a recording is replayed, as whom, and how fast."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from driftwell.messages.errors import MalformedError, SettingsError
from driftwell.messages.topics import Address, Kind, parse_topic
from driftwell.tools.replay.rewriting import TRAVELLING, Roles, cast_roles, known
from driftwell.tools.replay.timeline import Span, parse_speed


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for, as it was typed."""

    kinds: Sequence[str] = ()
    """Empty: those of the target."""
    devices: Sequence[str] = ()
    """Empty: all."""
    group: str | None = None
    renames: Sequence[str] = ()
    clones: int = 1
    start: str | None = None
    end: str | None = None
    speed: str = "max"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is replayed."""

    whole: Span
    """The recording."""
    stretch: Span
    """The part of it that is played."""
    topics: Mapping[str, int]
    """The topics that are played, and how many messages the recording has of each."""
    roles: Roles
    speed: float

    @property
    def groups(self) -> list[str]:
        """Whose messages they are."""
        return sorted({address.group for address in map(parse_topic, self.topics)})

    @property
    def changes_names(self) -> bool:
        """Whether anybody is played by another, or by several."""
        return any(names != (device,) for device, names in self.roles.items())


def make_plan(
    wishes: Wishes, topics: Mapping[str, int], whole: Span, *, kinds: Collection[Kind]
) -> Plan:
    """Hold the wishes against what the recording has.

    Args:
        wishes: What the user asked for.
        topics: How many messages the recording has on each topic.
        whole: When it begins and ends.
        kinds: What is played where the wishes say nothing.

    Raises:
        SettingsError: if they ask for what is not there, or is not possible.
    """
    addresses = _addresses(topics)
    wanted = _kinds(wishes.kinds) or frozenset(kinds)
    devices = {address.device for address in addresses.values()} - {"_"}
    groups = {address.group for address in addresses.values()}
    _require_all("--device", wishes.devices, devices)
    _require_all("--group", [wishes.group] if wishes.group else [], groups)
    played = {
        topic: topics[topic]
        for topic, address in addresses.items()
        if address.kind in wanted
        and (not wishes.devices or address.device in wishes.devices)
        and (wishes.group is None or address.group == wishes.group)
    }
    if not sum(played.values()):
        present = known({str(address.kind) for address in addresses.values()})
        raise SettingsError(
            f"nothing to replay: no such messages of kind {', '.join(sorted(wanted))}; {present}"
        )
    players = sorted({addresses[topic].device for topic in played} - {"_"})
    return Plan(
        whole=whole,
        stretch=whole.cut(wishes.start, wishes.end),
        topics=played,
        roles=cast_roles(players, wishes.renames, wishes.clones),
        speed=parse_speed(wishes.speed),
    )


def _addresses(topics: Mapping[str, int]) -> dict[str, Address]:
    """Of the topics that are ours and not empty."""
    addresses = {}
    for topic, count in topics.items():
        try:
            address = parse_topic(topic)
        except MalformedError:
            continue
        if count:
            addresses[topic] = address
    return addresses


def _kinds(names: Sequence[str]) -> frozenset[Kind]:
    travelling = {str(kind): kind for kind in TRAVELLING}
    _require_all("--kinds", names, travelling)
    return frozenset(travelling[name] for name in names)


def _require_all(option: str, names: Sequence[str], present: Collection[str]) -> None:
    for name in names:
        if name not in present:
            raise SettingsError(f"{option}: no {name!r} here; {known(present)}")
