"""What a device says of itself: birth document, will, telemetry."""

import os
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from driftwell.edge.device import Device
from driftwell.edge.limits import limits_message
from driftwell.edge.modules import Modules
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.codec import encode
from driftwell.messages.state import Limits, State
from driftwell.messages.telemetry import Inference, Link, Modular, Resources, Telemetry

CAPABILITIES = ("forward-only", "norm-delta")
MODULES = "modules"
"""What a device can besides whose bundle is modular."""


def state_message(device: Device, status: Literal["ready", "stopped"]) -> State:
    """The birth document, or the orderly end."""
    incumbent = device.node.incumbent
    return State(
        device=device.settings.device,
        session=device.session,
        seq=device.connection.epoch,
        clock_ns=device.clocks.wall_ns(),
        model=device.model,
        status=status,
        cohort=device.settings.cohort_name,
        version=incumbent.version,
        result=incumbent.result,
        last_seq=device.outbox.expected_seq,
        capabilities=CAPABILITIES if device.modules is None else (*CAPABILITIES, MODULES),
        limits=Limits(
            message_bytes=device.settings.message_limit_bytes,
            memory_bytes=device.memory_bytes,
            cpu_count=os.cpu_count() or 1,
        ),
        software=device.software,
        model_limits=msgspec.UNSET
        if device.modules is None
        else limits_message(device.modules.limits),
    )


def will_message(settings: EdgeSettings, *, session: str, model: str, source: str) -> State:
    """What the broker says when the connection dies; the session tells whether it is current."""
    return State(
        device=settings.device,
        session=session,
        seq=0,
        clock_ns=0,
        model=model,
        status="lost",
        cohort=settings.cohort_name,
        version=0,
        result=source,
    )


def encode_telemetry(device: Device, resources: Resources, seq: int) -> bytes:
    """One reading, encoded."""
    latency_ms = [1e3 * seconds for seconds in device.timing.latency_s]
    publish_ms = [1e3 * seconds for seconds in device.timing.publish_s]
    traffic = device.connection.traffic
    return encode(
        Telemetry(
            device=device.settings.device,
            session=device.session,
            seq=seq,
            clock_ns=device.clocks.wall_ns(),
            model=device.model,
            resources=resources,
            inference=Inference(
                batches=device.timing.batches,
                latency_ms_p50=_percentile(latency_ms, 50),
                latency_ms_p99=_percentile(latency_ms, 99),
                entropy_mean_nats=device.node.filter_state.mean,
                entropy_max_nats=device.node.entropy_max_nats,
                version=device.node.incumbent.version,
            ),
            link=Link(
                bytes_up=traffic.bytes_up,
                bytes_down=traffic.bytes_down,
                connects=traffic.connects,
                publish_ms_p50=_percentile(publish_ms, 50),
            ),
            counters={**device.spool.books(), **device.counters},
            modular=msgspec.UNSET if device.modules is None else _modular(device.modules),
        )
    )


def _modular(modules: Modules) -> Modular:
    usage = modules.model.meter.usage
    return Modular(
        submodel=modules.running,
        importance=tuple(layer.astype("<f4").tobytes() for layer in usage.importance),
        images=usage.images,
        class_shares=(
            msgspec.UNSET
            if usage.class_shares is None
            else usage.class_shares.astype("<f4").tobytes()
        ),
        limits=limits_message(modules.limits),
        held=modules.supply.held(),
    )


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None
