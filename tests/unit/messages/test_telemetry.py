"""Telemetry: readings within their bounds, and gaps where a machine cannot be read."""

import math

import pytest
from tests.golden.fixed_messages import TELEMETRY
from tests.unit.messages.tampering import fields_of, payload_with

from driftwell.messages import Telemetry, decode
from driftwell.messages.errors import MalformedError
from driftwell.messages.telemetry import MAX_COUNTERS

OPTIONAL = [
    "resources.temperature_celsius",
    "resources.battery_percent",
    "resources.on_battery",
    "inference.latency_ms_p50",
    "inference.latency_ms_p99",
    "inference.entropy_mean_nats",
    "link.publish_ms_p50",
]
BAD: list[tuple[str, object]] = [
    ("resources.cpu_percent", -0.1),
    ("resources.cpu_percent", 100.1),
    ("resources.cpu_percent", math.nan),
    ("resources.cpu_percent", None),
    ("resources.memory_used_bytes", -1),
    ("resources.memory_total_bytes", 0.5),
    ("resources.process_memory_bytes", None),
    ("resources.disk_free_bytes", 2**62 + 1),
    ("resources.temperature_celsius", math.nan),
    ("resources.temperature_celsius", math.inf),
    ("resources.battery_percent", 101),
    ("resources.on_battery", 1),
    ("inference.batches", -1),
    ("inference.latency_ms_p50", -1.0),
    ("inference.latency_ms_p99", math.nan),
    ("inference.entropy_mean_nats", -0.5),
    ("inference.entropy_max_nats", None),
    ("inference.version", -1),
    ("link.bytes_up", -1),
    ("link.bytes_down", "many"),
    ("link.connects", 1.5),
    ("link.publish_ms_p50", -1),
    ("counters", {"seen": -1}),
    ("counters", {"seen": 1.5}),
    ("counters", {"c" * 65: 1}),
    ("counters", {7: 1}),
    ("counters", {str(number): 1 for number in range(MAX_COUNTERS + 1)}),
    ("counters", []),
    ("resources", None),
    ("inference", {}),
    ("link", []),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_a_reading_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """A reading that cannot be true is refused, and where it stood is told."""
    with pytest.raises(MalformedError, match=field.rsplit(".", maxsplit=1)[-1]):
        decode(payload_with(TELEMETRY, field, value))


@pytest.mark.parametrize("field", OPTIONAL)
def test_what_a_machine_does_not_tell_is_none(field: str) -> None:
    """Readings that not every machine has may be nil."""
    group, name = field.split(".")

    message = decode(payload_with(TELEMETRY, field, None))

    assert getattr(getattr(message, group), name) is None


def test_the_upper_bound_may_be_infinite() -> None:
    """A filter without an upper bound says so with infinity."""
    message = decode(payload_with(TELEMETRY, "inference.entropy_max_nats", math.inf))

    assert isinstance(message, Telemetry)
    assert message.inference.entropy_max_nats == math.inf


def test_a_whole_number_is_a_reading_too() -> None:
    """A sender may write 37 where 37.0 is meant."""
    message = decode(payload_with(TELEMETRY, "resources.cpu_percent", 37))

    assert isinstance(message, Telemetry)
    assert message.resources.cpu_percent == 37.0


def test_as_many_counters_as_the_limit_travel() -> None:
    """The limit on counters is inclusive."""
    counters = {str(number): number for number in range(MAX_COUNTERS)}

    assert fields_of(decode(payload_with(TELEMETRY, "counters", counters)))["counters"] == counters
