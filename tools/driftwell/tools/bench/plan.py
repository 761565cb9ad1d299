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
    record: Path | None = None
    """Where each run with a cloud is recorded; see `recording_of`."""

    @property
    def cloud_methods(self) -> tuple[str, ...]:
        """The methods that have a cloud, and so something to record."""
        return tuple(name for name in self.methods if name in METHODS)

    def recording_of(self, stream: str, method: str) -> Path | None:
        """The recording of one run: `record`, with the run's name in it if there are several."""
        if self.record is None:
            return None
        runs = len(self.cloud_methods) * (1 if self.protocol == "continual" else len(self.streams))
        return (
            self.record
            if runs == 1
            else self.record.with_stem(f"{self.record.stem}-{stream}-{method}")
        )
