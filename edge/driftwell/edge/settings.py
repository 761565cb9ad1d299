"""Pure. Everything an edge daemon can be told, as one frozen value."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from driftwell.edge.bank import BankSettings
from driftwell.edge.budget import BudgetSettings
from driftwell.edge.choosing import SelectionSettings
from driftwell.edge.drift import DriftSettings
from driftwell.edge.filter import FilterSettings
from driftwell.messages.codec import MESSAGE_LIMIT
from driftwell.messages.envelope import MAX_COUNT, Positive
from driftwell.messages.images import MAX_QUALITY
from driftwell.messages.names import NAME_PATTERN
from driftwell.models.statistics import StatisticsSettings

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Statistics = Literal["first-batch", "delivered", "own"]


class SpoolSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The disk buffer between the filter and the broker."""

    limit_bytes: Annotated[int, msgspec.Meta(ge=100_000)] = 256_000_000
    window: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    """Sample batches in flight to the cloud at most."""
    resend_s: Seconds = 10.0
    """What the cloud has not acknowledged for so long is sent again; the wait doubles each time."""


class UploadSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What selected samples are turned into."""

    quality: Annotated[int, msgspec.Meta(ge=1, le=MAX_QUALITY)] | None = None
    """JPEG quality of uploaded images; None: without loss."""
    gather: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    """Images of the stream whose samples share a message, where batches are smaller."""


class ModelLimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a modular model may take on this device; None: there is no such limit."""

    memory_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] | None = None
    """At its peak: parameters, buffers and activations."""
    latency_ms: Positive | None = None
    """Milliseconds a batch, on this device."""
    download_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] | None = None
    """For one sub-model."""


class PieceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The modules a device fetches."""

    limit_bytes: Annotated[int, msgspec.Meta(ge=100_000)] = 256_000_000
    """On disk, beside those of the bundle."""
    fetch_retry_s: Seconds = 10.0
    """After a silence of so long it asks again; the wait doubles each time."""


class LearningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether and how a device trains its modules on labelled images of its source."""

    enabled: bool = False
    every: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 256
    """New labelled images for each training."""
    window: Annotated[int, msgspec.Meta(ge=2, le=100_000)] = 1024
    """It trains on so many of the newest ones."""
    epochs: Annotated[int, msgspec.Meta(ge=1, le=100)] = 3
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.001
    """Of Adam."""
    batch: Annotated[int, msgspec.Meta(ge=2, le=4096)] = 16
    keep: bool = False
    """Whether it answers by what it learned, until it gets another sub-model or a version of this
    one: if training on three of four images has a smaller loss on the fourth than what it runs."""
    class_prior: bool = False
    """Whether answers take into account how often each class is among the `window`. Right where
    these labels are a fair sample of what comes; a class without one is hardly answered then."""


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One edge daemon."""

    bundle: Path
    source: str
    """`npz:FILE`, `dir:FOLDER`, or `mcap:FILE` with `#DEVICE` behind it if it holds several."""
    device: Name
    group: Name = "default"
    cohort: Name | None = None
    """Devices of one cohort share one adapted state; None: the device is its own cohort."""
    broker: str = "mqtt://localhost:1883"
    state_dir: Path | None = None
    """Spool, position in the stream, trusted key; None: `~/.local/state/driftwell/DEVICE`."""
    batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 64
    pace: str = "max"
    """`max`, `rate:N` images a second, or `lockstep`: wait for the cloud after each batch."""
    predictions: str = "none"
    """`none`, `-` (standard output), a file for JSON lines, or `mqtt`."""
    record: Path | None = None
    """Record the raw stream and the answers to this file; None: do not."""
    statistics: Statistics = "first-batch"
    """BatchNorm statistics: `own`, an average over the device's stream; `delivered`, those of
    the version, and before one the source's; `first-batch`, before a version the first batch's.
    """
    own_statistics: StatisticsSettings = StatisticsSettings()
    """With `own`: how the average is kept."""
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    trust: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")] | None = None
    """Public key (64 hexadecimal digits) of the cloud; None: trust the first one seen."""
    telemetry_every_s: Seconds = 10.0
    message_limit_bytes: Annotated[int, msgspec.Meta(ge=4096, le=200_000_000)] = MESSAGE_LIMIT
    metrics_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] | None = None
    """Port on the loopback interface for Prometheus; None: no metrics endpoint."""
    filter: FilterSettings = FilterSettings()
    spool: SpoolSettings = SpoolSettings()
    upload: UploadSettings = UploadSettings()
    budget: BudgetSettings = BudgetSettings()
    selection: SelectionSettings = SelectionSettings()
    drift: DriftSettings | None = None
    """How it watches for drift, with own statistics; None: it does not."""
    bank: BankSettings = BankSettings()
    """How it remembers domains, where it watches for drift."""
    limits: ModelLimitSettings = ModelLimitSettings()
    """With a modular bundle: what the model may take."""
    limits_file: Path | None = None
    """A TOML file with the keys of `limits`, looked at every second; it counts in their place."""
    limits_patience_s: Annotated[float, msgspec.Meta(ge=0)] = 5.0
    """So long a larger sub-model must be within the limits before the device goes back to it by
    itself."""
    pieces: PieceSettings = PieceSettings()
    learning: LearningSettings = LearningSettings()

    def __post_init__(self) -> None:
        if self.device == "cloud":
            raise ValueError("a device may not be called 'cloud': the broker knows the cloud by it")

    @property
    def watches_drift(self) -> bool:
        """Whether it does: that takes statistics of its own."""
        return self.drift is not None and self.statistics == "own"

    @property
    def cohort_name(self) -> str:
        """The cohort, or the device itself where none was given."""
        return self.cohort or self.device
