"""Pure. Telemetry: how a device is doing. QoS 0: the next one makes a lost one good."""

from typing import Annotated, Final

import msgspec

from driftwell.messages.envelope import Count, Envelope, Finite
from driftwell.messages.state import ModelLimits

MAX_COUNTERS: Final = 256
MAX_LAYERS: Final = 1000
MAX_MODULES: Final = 256
"""In a layer."""
MAX_CLASSES: Final = 65_536

Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, as far as it lets itself be read; None where it does not."""

    cpu_percent: Percent
    memory_used_bytes: Count
    memory_total_bytes: Count
    process_memory_bytes: Count
    disk_free_bytes: Count
    temperature_celsius: Finite | None = None
    battery_percent: Percent | None = None
    on_battery: bool | None = None


class Inference(msgspec.Struct, frozen=True, kw_only=True):
    """The last batches (a bounded window) and the filter's present state."""

    batches: Count
    latency_ms_p50: NonNegative | None = None
    latency_ms_p99: NonNegative | None = None
    entropy_mean_nats: NonNegative | None = None
    entropy_max_nats: NonNegative
    """The filter's present upper bound E_max."""
    version: Count


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """The connection since the program started; bytes are whole PUBLISH packets."""

    bytes_up: Count
    bytes_down: Count
    connects: Count
    publish_ms_p50: NonNegative | None = None


class Modular(msgspec.Struct, frozen=True, kw_only=True):
    """How a device with a modular model is doing: what its sub-model is planned from."""

    submodel: Count
    """The version of the sub-model that answers; 0: the fallback that the device came with."""
    importance: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=4 * MAX_MODULES)], ...],
        msgspec.Meta(max_length=MAX_LAYERS),
    ] = ()
    """For each layer the mean gate of each of the whole model's modules over the device's own
    images, float32, little endian, at least 0; empty until it has seen some."""
    images: Count = 0
    """How many images that is the mean of."""
    class_shares: Annotated[bytes, msgspec.Meta(max_length=4 * MAX_CLASSES)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    """Mean probability of each class over the device's newest answers, float32, little endian, at
    least 0; absent until it has given some."""
    limits: ModelLimits = ModelLimits()
    """What the model may take at present."""
    held: Annotated[
        tuple[Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_MODULES)], ...],
        msgspec.Meta(max_length=MAX_LAYERS),
    ] = ()
    """For each layer and module the newest version on the device's disk, plus 1; 0: none."""


class Telemetry(Envelope, frozen=True, kw_only=True, tag="telemetry"):
    """One reading of a device."""

    resources: Resources
    inference: Inference
    link: Link
    counters: Annotated[
        dict[Annotated[str, msgspec.Meta(max_length=64)], Count],
        msgspec.Meta(max_length=MAX_COUNTERS),
    ]
    """Samples seen, selected, excluded, spooled, acknowledged, dropped by reason."""
    modular: Modular | msgspec.UnsetType = msgspec.UNSET
    """Of a device whose bundle is modular."""
