"""Pure. What a device's model may take at present: what it declared, and what its readings say.

A device declares limits in its birth document and in telemetry. On top of these its sub-model
shrinks while the machine is short of memory, hot, or low on battery. Costs are measured in the
cloud, so a device's milliseconds are counted in the cloud's: by how much slower its present
sub-model is there than here.
"""

import sys
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from driftwell.cloud.modular.planner import DOWNLOAD, LATENCY, MEMORY
from driftwell.messages.errors import RefusalCode, WireError
from driftwell.messages.state import ModelLimits
from driftwell.messages.telemetry import Resources

LARGEST_SCALE: Final = 1e4
"""How much slower than the cloud a device may be; beyond, its readings are taken for nonsense."""


class PressureSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a device gets less than it asked for."""

    reserve_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Memory of the machine that shall stay free; what is missing of it the model gives up. 0:
    the machine's memory is not looked at."""
    hot_celsius: Annotated[float, msgspec.Meta(gt=0)] = 85.0
    """From here on the model is eased: processors throttle about there."""
    low_battery_percent: Annotated[float, msgspec.Meta(ge=0, le=100)] = 20.0
    """Below it, while on battery, the model is eased."""
    eased: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Share of the whole model's time that an eased one may take."""


def present_limits(
    declared: ModelLimits,
    resources: Resources | None,
    *,
    running: Mapping[str, float],
    whole: Mapping[str, float],
    scale: float,
    settings: PressureSettings,
) -> dict[str, float]:
    """The limits to plan with, by resource: bytes, and milliseconds of the cloud; all above 0.

    Args:
        declared: By the device; what is absent has no limit.
        resources: Its last reading of the machine; None: there was none.
        running: What its present sub-model takes of each resource.
        whole: What the whole model takes.
        scale: Milliseconds of the device for one of the cloud (`latency_scale`).
        settings: When it is eased.

    Raises:
        WireError: `implausible-limits`, if it declares more memory than its machine has.
    """
    limits: dict[str, float] = {}
    if not isinstance(declared.memory_bytes, msgspec.UnsetType):
        limits[MEMORY] = float(declared.memory_bytes)
    if not isinstance(declared.latency_ms, msgspec.UnsetType):
        latency_ms = declared.latency_ms / scale
        limits[LATENCY] = min(max(latency_ms, sys.float_info.min), sys.float_info.max)
    if not isinstance(declared.download_bytes, msgspec.UnsetType):
        limits[DOWNLOAD] = float(declared.download_bytes)
    if resources is None:
        return limits
    if limits.get(MEMORY, 0.0) > resources.memory_total_bytes:
        raise WireError(
            f"a model of {limits[MEMORY]:.0f} bytes does not fit a machine of "
            f"{resources.memory_total_bytes}: correct the device's limits.memory_bytes",
            RefusalCode.IMPLAUSIBLE_LIMITS,
        )
    if settings.reserve_bytes:
        # What it runs and what is free beside the reserve. It is the same after it has given way,
        # and so no reason to take the room again that it has just given up.
        free = resources.memory_total_bytes - resources.memory_used_bytes
        left = max(1.0, running[MEMORY] + free - settings.reserve_bytes)
        limits[MEMORY] = min(left, limits.get(MEMORY, left))
    if _is_to_be_eased(resources, settings):
        eased = settings.eased * whole[LATENCY]
        limits[LATENCY] = min(eased, limits.get(LATENCY, eased))
    return limits


def latency_scale(measured_ms: float | None, cost_ms: float, before: float) -> float:
    """Milliseconds of a device for one of the cloud; `before` where nothing sound was measured.

    Args:
        measured_ms: A batch of its present sub-model takes so long there; None: not measured.
        cost_ms: What it costs by the cloud's measure.
        before: What was known so far.
    """
    if measured_ms is None or cost_ms <= 0:
        return before
    scale = measured_ms / cost_ms
    return scale if 1 / LARGEST_SCALE <= scale <= LARGEST_SCALE else before


def _is_to_be_eased(resources: Resources, settings: PressureSettings) -> bool:
    celsius, percent = resources.temperature_celsius, resources.battery_percent
    is_hot = celsius is not None and celsius >= settings.hot_celsius
    is_low = percent is not None and percent < settings.low_battery_percent
    return is_hot or (is_low and bool(resources.on_battery))
