"""Pure. From `--set` and `--grid` to variants: which settings each changes, and on which side.

Only settings that decide something in a repeated run may be set. Addresses, folders,
threads and the spool decide nothing there, because nothing travels and nothing waits.
"""

import difflib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

import msgspec

from driftwell.cloud.settings import METHODS, CloudSettings
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.errors import SettingsError
from driftwell.tools.bench.plan import IN_PROCESS_BASELINES

AS_RECORDED: Final = "as recorded"
METHOD: Final = "method"
CUT: Final = "batch"
MAX_VARIANTS: Final = 500

_IDLE: Final = {
    "edge": {
        "bundle", "source", "device", "group", "broker", "state_dir", "pace", "predictions",
        "threads", "record", "trust", "telemetry_every_s", "metrics_port", "spool",
    },
    "cloud": {
        "foundation", "edge", "group", "broker", "state_dir", "threads", "metrics_port",
        "method.name",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Variant:
    """The recorded settings, with some of them changed."""

    name: str
    edge: tuple[str, ...] = ()
    """Assignments `key=value` to the settings of every device."""
    cloud: tuple[str, ...] = ()
    """Assignments to the settings of the cloud."""
    method: str | None = None
    """A method or a baseline in place of the recorded method; None: that one."""

    @property
    def baseline(self) -> str | None:
        """The baseline that answers alone on each device, if it is one."""
        return self.method if self.method in IN_PROCESS_BASELINES else None

    @property
    def recuts(self) -> bool:
        """Whether the images come in other batches than the recorded ones."""
        return any(assignment.partition("=")[0] == CUT for assignment in self.edge)


def read_variants(sets: Sequence[str], grids: Sequence[str]) -> list[Variant]:
    """The run as recorded, then one variant for each of `sets`, then the product of `grids`.

    Args:
        sets: Each some assignments with commas between: `filter.e_max=0.3,seed=1`.
        grids: Each one key and its values: `filter.e_max=0.2,0.4`.

    Raises:
        SettingsError: which key is unknown or belongs to both sides, and what is meant.
    """
    chosen = [_split(text) for text in sets]
    axes = [_values(text) for text in grids]
    count = len(chosen) + (math.prod(map(len, axes)) if axes else 0)
    if count > MAX_VARIANTS:
        raise SettingsError(
            f"that makes {count} variants, and {MAX_VARIANTS} is the most; give --grid fewer values"
        )
    if axes:
        chosen += [list(one) for one in itertools.product(*axes)]
    return [Variant(AS_RECORDED), *(_variant(assignments) for assignments in chosen)]


def deciding_settings() -> dict[str, list[str]]:
    """Every key that may be set, by side, in the order of the settings."""
    roles: dict[str, type[msgspec.Struct]] = {"edge": EdgeSettings, "cloud": CloudSettings}
    return {side: _leaves(role, "", _IDLE[side]) for side, role in roles.items()}


def _split(text: str) -> list[str]:
    assignments = [part.strip() for part in text.split(",")]
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not (key.strip() and equals and value.strip()):
            raise SettingsError(f"--set takes key=value[,key=value …], not {text!r}")
    return assignments


def _values(text: str) -> list[str]:
    key, equals, values = text.partition("=")
    each = [value.strip() for value in values.split(",")]
    if not (key.strip() and equals and all(each)) or any("=" in value for value in each):
        raise SettingsError(f"--grid takes key=value,value …, not {text!r}")
    return [f"{key.strip()}={value}" for value in each]


def _variant(assignments: Sequence[str]) -> Variant:
    method: str | None = None
    sides: dict[str, list[str]] = {"edge": [], "cloud": []}
    for assignment in assignments:
        key, _, value = (part.strip() for part in assignment.partition("="))
        if key in {METHOD, f"cloud.{METHOD}"}:
            method = _require_method(value)
            continue
        side, path = _find(key)
        sides[side].append(f"{path}={value}")
    variant = Variant(",".join(assignments), tuple(sides["edge"]), tuple(sides["cloud"]), method)
    _refuse_idle(variant)
    return variant


def _require_method(name: str) -> str:
    known = (*IN_PROCESS_BASELINES, *METHODS)
    if name not in known:
        raise SettingsError(f"unknown method {name!r}; known: {', '.join(known)}")
    return name


def _refuse_idle(variant: Variant) -> None:
    if variant.baseline is None:
        return
    others = [text for text in (*variant.edge, *variant.cloud) if not text.startswith(f"{CUT}=")]
    if others:
        raise SettingsError(
            f"{variant.name}: {variant.baseline} adapts on the device alone, so that of all "
            f"settings only 'batch' changes it; leave out {', '.join(others)}"
        )


def _find(key: str) -> tuple[str, str]:
    """The side a key belongs to, and the key without a prefix."""
    known = deciding_settings()
    side, dot, rest = key.partition(".")
    if dot and side in known and rest in known[side]:
        return side, rest
    sides = [side for side, keys in known.items() if key in keys]
    if len(sides) == 1:
        return sides[0], key
    if sides:
        both = " or ".join(f"'{side}.{key}'" for side in sides)
        raise SettingsError(f"setting {key!r} is one of both sides: say {both}")
    raise SettingsError(_unknown(key, [one for keys in known.values() for one in keys]))


def _unknown(key: str, known: Sequence[str]) -> str:
    bare = key.removeprefix("edge.").removeprefix("cloud.")
    if any(bare == idle or bare.startswith(f"{idle}.") for idle in _IDLE["edge"] | _IDLE["cloud"]):
        return f"setting {key!r} decides nothing when a recording is run again; leave it out"
    inner = [one for one in known if one.endswith(f".{bare}")]
    close = inner or difflib.get_close_matches(bare, known, n=3, cutoff=0.6)
    if close:
        return f"unknown setting {key!r}; did you mean {' or '.join(map(repr, close))}?"
    return f"unknown setting {key!r}; known: {METHOD}, {', '.join(dict.fromkeys(known))}"


def _leaves(role: type[msgspec.Struct], path: str, idle: set[str]) -> list[str]:
    keys = []
    for field in msgspec.structs.fields(role):
        key = path + field.encode_name
        if key in idle:
            continue
        nested = _struct_in(field.type)
        keys += _leaves(nested, f"{key}.", idle) if nested else [key]
    return keys


def _struct_in(annotation: object) -> type[msgspec.Struct] | None:
    for option in (annotation, *get_args(annotation)):
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            return option
    return None
