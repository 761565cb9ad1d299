"""Pure. What a bench run is asked to do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from driftwell.cloud.settings import METHODS

DEVICE: Final = "bench"
IN_PROCESS_BASELINES: Final = ("none", "bn", "tent", "eta")
ALL_METHODS: Final = (*IN_PROCESS_BASELINES, *METHODS)

Transport = Literal["mqtt", "inprocess"]
Protocol = Literal["reset", "continual"]


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of the bench: every stream with every method."""

    edge: Path
    foundation: Path
    streams: tuple[Path, ...]
    methods: tuple[str, ...]
    transport: Transport
    broker: str
    """`amqtt`, `mosquitto`, or the URL of a running broker."""
    pace: str
    protocol: Protocol
    batch: int
    seed: int
    threads: int
    edge_assignments: tuple[str, ...] = ()
    cloud_assignments: tuple[str, ...] = ()
