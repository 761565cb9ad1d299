"""Everything a cloud consumer can be told, as one frozen value."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from driftwell.cloud.modular.settings import ModuleSettings
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

METHODS: Final = {"cema": "cema.toml", "driftwell": "driftwell.toml"}
"""Method settings Driftwell brings."""
DEFAULT_METHOD: Final = "driftwell"
EDGE_TABLE: Final = "edge"
"""The table of a method's file that is for the devices."""


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


class TeacherSettings(_Strict, frozen=True, kw_only=True):
    """What the foundation model says of an image."""

    prior_images: Weight
    """How many images the source statistics are worth."""
    mirrors: bool
    """Whether it looks at the mirror image too."""
    bfloat16: bool = False
    """Multiply in bfloat16: faster where the processor can, other bits everywhere."""


class StudentSettings(_Strict, frozen=True, kw_only=True):
    """How the edge model learns from the teacher."""

    learning_rate: Positive
    steps: Size
    """Of Adam, with each batch of uploads."""
    batch: BatchSize
    average: Share
    """Share of the weights' running average kept with each step."""
    mirrors: bool
    shift: Annotated[int, msgspec.Meta(ge=0, le=64)]
    """Pixels at most."""
    first: BatchSize
    """Images before it begins to learn."""
    moves: Literal["all", "normalisation"]
    """Which of the arrays that the bundle lets adapt."""
    statistics_images: BatchSize
    """Newest images a version's BatchNorm statistics are measured on."""
    bfloat16: bool = False
    """Multiply in bfloat16 while learning; what devices get is measured in float32."""


HEAD_BYTES: Final = 4096
"""What a head takes beside its delta: names, provenance, and a signature of up to 256 channels."""


class VersionSettings(_Strict, frozen=True, kw_only=True):
    """When a version is made, and how large it may be."""

    every: Size
    """Steps."""
    limit_bytes: Annotated[int, msgspec.Meta(ge=1024)]
    """Of a delta; its precision and sparsity follow from it."""


class GateSettings(_Strict, frozen=True, kw_only=True):
    """What a version must pass before it is published."""

    tolerance: Annotated[float, msgspec.Meta(ge=-1000, le=1000)]
    """Standard errors by which it may agree less with the teacher than its parent; below 0, by
    which it must agree more."""
    diversity: Share
    """Effective number of classes it answers with, over the teacher's."""


class DomainSettings(_Strict, frozen=True, kw_only=True):
    """How a cohort is split into domains, where its devices watch for drift."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 16
    """Domains of a cohort at most; then the nearest takes what fits none."""
    match_distance: Positive = 0.02
    """A domain further away than this is another one (`messages.signature.distance`)."""


class MethodSettings(_Strict, frozen=True, kw_only=True, omit_defaults=True):
    """A whole method, as its TOML file says it: CEMA's tables, or those of our own."""

    name: Name
    foundation: FoundationSettings | None = None
    distillation: DistillationSettings | None = None
    statistics: StatisticsSettings | None = None
    teacher: TeacherSettings | None = None
    student: StudentSettings | None = None
    versions: VersionSettings | None = None
    gate: GateSettings | None = None
    replay: ReplaySettings
    policy: PolicySettings
    domains: DomainSettings = DomainSettings()

    def __post_init__(self) -> None:
        cema = (self.foundation, self.distillation, self.statistics)
        ours = (self.teacher, self.student, self.versions, self.gate)
        is_cema = self.cema_tables is not None and ours == (None,) * len(ours)
        is_ours = self.distiller_tables is not None and cema == (None,) * len(cema)
        if not is_cema and not is_ours:
            raise ValueError(
                "a method has the tables foundation, distillation and statistics (cema), or "
                "teacher, student, versions and gate (driftwell)"
            )
        if self.student is not None and self.student.first > self.replay.capacity:
            raise ValueError(
                f"student.first is {self.student.first}, and replay.capacity holds "
                f"{self.replay.capacity}: nothing would ever be learned"
            )

    @property
    def cema_tables(
        self,
    ) -> tuple[FoundationSettings, DistillationSettings, StatisticsSettings] | None:
        """CEMA's own tables; None for another learner's settings."""
        if self.foundation is None or self.distillation is None or self.statistics is None:
            return None
        return self.foundation, self.distillation, self.statistics

    @property
    def distiller_tables(
        self,
    ) -> tuple[TeacherSettings, StudentSettings, VersionSettings, GateSettings] | None:
        """Our distiller's own tables; None for another learner's settings."""
        if self.teacher is None or self.student is None:
            return None
        if self.versions is None or self.gate is None:
            return None
        return self.teacher, self.student, self.versions, self.gate

    @property
    def digest(self) -> str:
        """16 digits that name these settings in a version's provenance."""
        return digest_bytes(msgspec.json.encode(self))[:16]


def method_document(name: str) -> dict[str, object]:
    """The settings of a method Driftwell brings, as read from its TOML file.

    Raises:
        SettingsError: if there is no such method.
    """
    return {key: value for key, value in _read_method(name).items() if key != EDGE_TABLE}


def edge_document(name: str) -> dict[str, Any]:
    """The edge settings a method asks for: the table `[edge]` of its TOML file, if it has one.

    Raises:
        SettingsError: if there is no such method.
    """
    return dict(_read_method(name).get(EDGE_TABLE, {}))


def _read_method(name: str) -> dict[str, Any]:
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
    start: Path | None = None
    """Bundle of the edge's model whose weights every cohort begins with; None: the edge's."""
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
    modules: ModuleSettings = ModuleSettings()
    """Where the edge bundle is modular: how sub-models are planned, and modules learned."""
    message_limit_bytes: Annotated[int, msgspec.Meta(ge=4096, le=200_000_000)] = MESSAGE_LIMIT
    metrics_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] | None = None
    """Port on the loopback interface for Prometheus; None: no metrics endpoint."""

    def __post_init__(self) -> None:
        versions = self.method.versions
        room = self.message_limit_bytes - HEAD_BYTES
        if versions is not None and versions.limit_bytes > room:
            raise ValueError(
                f"method.versions.limit_bytes may be {room} at most: a version travels with its "
                "manifest in one message (message_limit_bytes, here and on the devices)"
            )


def configuration_document(
    settings: CloudSettings, *, foundation: str, start: str | None = None
) -> str:
    """Everything the operator chose that decides the bits of a version, as JSON.

    Args:
        settings: Of the cloud.
        foundation: Digest of the foundation bundle; the edge bundle's is in every manifest.
        start: Digest of the bundle that cohorts begin with, if it is another than the edge's.
    """
    chosen = {"method": settings.method, "seed": settings.seed, "foundation": foundation}
    if start is not None:
        chosen["start"] = start
    return msgspec.json.encode(chosen).decode()
