"""Everything a cloud consumer can be told, as one frozen value."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import msgspec

from driftwell.messages.codec import MESSAGE_LIMIT
from driftwell.messages.digest import digest_bytes
from driftwell.messages.errors import SettingsError
from driftwell.messages.names import NAME_PATTERN

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Weight = Annotated[float, msgspec.Meta(ge=0)]
Size = Annotated[int, msgspec.Meta(ge=1)]
BatchSize = Annotated[int, msgspec.Meta(ge=2)]  # one image has no variance

METHODS: Final = {"cema": "cema.toml", "driftwell": "cema.toml"}
"""Method settings Driftwell brings. `driftwell` starts as what it wants to improve on."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are errors."""


class FoundationSettings(_Strict, frozen=True, kw_only=True):
    """Adapting the foundation model: SGD on weighted entropy."""

    learning_rate: Positive
    momentum: Share
    margin: Positive
    """E0 / ln C in every weight exp(E0 - H)."""


class DistillationSettings(_Strict, frozen=True, kw_only=True):
    """Distilling into the edge model: SGD on three weighted terms."""

    learning_rate: Positive
    momentum: Share
    entropy: Weight
    divergence: Weight
    pseudo_label: Weight
    temperature: Positive


class StatisticsSettings(_Strict, frozen=True, kw_only=True):
    """Running BatchNorm statistics of both models."""

    momentum: Share


class ReplaySettings(_Strict, frozen=True, kw_only=True):
    """The replay buffer of a cohort."""

    capacity: Size
    minimum: Size
    batch: Size


class PolicySettings(_Strict, frozen=True, kw_only=True):
    """When to learn."""

    batch: BatchSize
    minimum_batch: BatchSize


class MethodSettings(_Strict, frozen=True, kw_only=True):
    """A whole method, as its TOML file says it."""

    name: Name
    foundation: FoundationSettings
    distillation: DistillationSettings
    statistics: StatisticsSettings
    replay: ReplaySettings
    policy: PolicySettings

    @property
    def digest(self) -> str:
        """16 digits that name these settings in a version's provenance."""
        return digest_bytes(msgspec.json.encode(self))[:16]


def method_document(name: str) -> dict[str, object]:
    """The settings of a method Driftwell brings, as read from its TOML file.

    Raises:
        SettingsError: if there is no such method.
    """
    if name not in METHODS:
        raise SettingsError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    file = resources.files("driftwell.cloud") / "methods" / METHODS[name]
    return {**tomllib.loads(file.read_text(encoding="utf-8")), "name": name}


class CloudSettings(_Strict, frozen=True, kw_only=True):
    """One cloud consumer."""

    foundation: Path
    """Bundle of the foundation model."""
    edge: Path
    """Bundle of the edge model, the same the devices run."""
    group: Name = "default"
    broker: str = "mqtt://localhost:1883"
    state_dir: Path | None = None
    """Ledger, registry, signing key; None: `~/.local/state/driftwell/cloud-GROUP`."""
    method: MethodSettings
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    """For training; None: one for each core."""
    cohorts: Size = 1000
    """Cohorts at most; samples for another are refused."""
    pending_limit: Size = 20_000
    """Samples of a cohort that wait at most; further ones stay in the devices' spools."""
    expiry_days: Positive = 30.0
    """How long a version may be applied."""
    message_limit_bytes: Annotated[int, msgspec.Meta(ge=4096, le=200_000_000)] = MESSAGE_LIMIT
    metrics_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] | None = None
    """Port on the loopback interface for Prometheus; None: no metrics endpoint."""


def configuration_document(settings: CloudSettings, *, foundation: str) -> str:
    """Everything the operator chose that decides the bits of a version, as JSON.

    Args:
        settings: Of the cloud.
        foundation: Digest of the foundation bundle; the edge bundle's is in every manifest.
    """
    chosen = {"method": settings.method, "seed": settings.seed, "foundation": foundation}
    return msgspec.json.encode(chosen).decode()
