"""Pure. What a recorder subscribes to, so that each message comes once.

A broker may deliver a message once for every subscription that selects it. So no two may
select the same topic.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Final

from driftwell.broker.filters import matches
from driftwell.messages.errors import SettingsError
from driftwell.messages.names import EVERYONE, require_name
from driftwell.messages.topics import ROOT, Kind, kind_filter

UNRECORDED: Final = frozenset({Kind.ECHO, Kind.STREAM})
"""An echo means nothing, and a stream batch never travels."""
MAX_FILTER: Final = 65_535


def group_filters(group: str) -> tuple[str, ...]:
    """Everything a group says: each kind of its devices, and the heads of cohorts and domains.

    Raises:
        SettingsError: if it is not a valid name.
    """
    require_name(group, what="group")
    kinds = tuple(kind_filter(group, kind) for kind in Kind if kind not in UNRECORDED)
    heads = f"{ROOT}/{group}/+/{Kind.HEAD}/+"  # of a cohort, or of a device's own domain
    return (*kinds, heads, f"{ROOT}/{group}/{EVERYONE}/{Kind.HEAD}/+/+")


def separate_filters(filters: Sequence[str]) -> tuple[str, ...]:
    """The filters without those that another one covers.

    Raises:
        SettingsError: if one is no MQTT filter, or two select the same topic in part.
    """
    for one in filters:
        _require_filter(one)
    kept = [
        one
        for one in dict.fromkeys(filters)
        if not any(_covers(other, one) for other in filters if other != one)
    ]
    for one, other in combinations(kept, 2):
        if _meet(one.split("/"), other.split("/")):
            raise SettingsError(
                f"--topic {one!r} and {other!r} select the same topics in part, and their "
                f"messages would be recorded twice; choose filters without overlap"
            )
    return tuple(kept)


def _require_filter(topic_filter: str) -> None:
    levels = topic_filter.split("/")
    is_sound = (
        0 < len(topic_filter.encode()) <= MAX_FILTER
        and "\0" not in topic_filter
        and "#" not in levels[:-1]
        and all(level in ("+", "#") or not set(level) & {"+", "#"} for level in levels)
    )
    if not is_sound:
        raise SettingsError(
            f"--topic {topic_filter!r} is no MQTT filter; + stands for one level, # for all "
            f"that follow, such as driftwell/v1/default/+/event"
        )


def _covers(wide: str, narrow: str) -> bool:
    if not narrow.endswith("#"):
        return matches(wide, narrow)
    is_shorter = len(wide.split("/")) <= len(narrow.split("/"))
    return wide.endswith("#") and is_shorter and matches(wide, f"{narrow[:-1]}x")


def _meet(one: list[str], other: list[str]) -> bool:
    if one[:1] == ["#"] or other[:1] == ["#"]:
        return True
    if not one or not other:
        # A final # also selects the level above it, and that filter has nothing left.
        return (one or other or ["#"])[0] == "#"
    if "+" in (one[0], other[0]) or one[0] == other[0]:
        return _meet(one[1:], other[1:])
    return False
