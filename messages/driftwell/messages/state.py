"""Pure. The state of a device: its birth document, and what is left when it goes.

Retained, and at the same time the will: the broker publishes `lost` when the connection
dies. A `lost` whose session is not the device's current one is stale and ignored.
"""

from typing import Annotated, Final, Literal

import msgspec

from driftwell.messages.envelope import MAX_COUNT, Count, Digest, Envelope, Name, Positive

MAX_CAPABILITIES: Final = 64


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the device can take."""

    message_bytes: Count
    memory_bytes: Count
    cpu_count: Count


class ModelLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a model may take on a device; what is absent has no limit."""

    memory_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    """At its peak: parameters, buffers and activations."""
    latency_ms: Positive | msgspec.UnsetType = msgspec.UNSET
    """Milliseconds a batch, on the device."""
    download_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    """For one sub-model."""


class State(Envelope, frozen=True, kw_only=True, tag="state"):
    """Birth (`ready`), orderly end (`stopped`), or the broker's word (`lost`)."""

    status: Literal["ready", "stopped", "lost"]
    cohort: Name
    """Devices of one cohort share one adapted state; by default each is its own."""
    version: Count
    """The version the device runs; 0 is the bundle's source state."""
    result: Digest
    """The digest of the adaptable state it runs."""
    last_seq: Count = 0
    """With `stopped`: the highest seq of the session the cloud has, or will still be offered."""
    capabilities: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=48)], ...],
        msgspec.Meta(max_length=MAX_CAPABILITIES),
    ] = ()
    limits: Limits | None = None
    software: Annotated[str, msgspec.Meta(max_length=48)] = ""
    model_limits: ModelLimits | msgspec.UnsetType = msgspec.UNSET
    """Of a device whose bundle is modular: what its model may take."""
