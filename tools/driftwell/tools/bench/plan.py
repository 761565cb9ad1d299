"""Pure. What a bench is asked to do, and the runs that come of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from driftwell.cloud.settings import METHODS, edge_document
from driftwell.messages.errors import SettingsError
from driftwell.tools.bench.scenarios import ONE_STREAM_A_RUN

DEVICE: Final = "bench"
POOL: Final = "pool"
"""The cohort that all devices share with `--pooling cohort`."""
IN_PROCESS_BASELINES: Final = ("none", "bn", "own", "tent", "eta")
ALL_METHODS: Final = (*IN_PROCESS_BASELINES, *METHODS)

Transport = Literal["mqtt", "inprocess", "virtual"]
Scenario = Literal["reset", "continual", "gradual", "mixed", "correlated", "recurring", "clean"]
Pooling = Literal["alone", "cohort"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: every stream with every method and seed, in one scenario."""

    edge: Path
    foundation: Path
    streams: tuple[Path, ...]
    methods: tuple[str, ...]
    transport: Transport
    broker: str
    """`amqtt`, `mosquitto`, or the URL of a running broker."""
    pace: str
    scenario: Scenario
    batch: int
    seed: int
    """The first one; of the order of the images and of the cloud."""
    threads: int
    edge_assignments: tuple[str, ...] = ()
    """`key=value`, or `METHOD:key=value` for one method alone."""
    cloud_assignments: tuple[str, ...] = ()
    record: Path | None = None
    """Where each run with a cloud is recorded; see `recording_of`."""
    seeds: int = 1
    images: int | None = None
    """Of each stream, its first ones; None: all."""
    devices: int = 1
    pooling: Pooling = "alone"
    delay: int = 0
    """Batches of a device before a version reaches it."""
    drop: float = 0.0
    """Probability with which a sample batch or a head is lost."""
    budget_bytes: int | None = None
    """Upload bytes of a device in one run; None: no limit."""

    def __post_init__(self) -> None:
        if self.scenario == "clean" and len(self.streams) > 1:
            raise SettingsError("--scenario clean takes one --stream: the undistorted one")
        if len({stream.stem for stream in self.streams}) < len(self.streams):
            raise SettingsError("two streams have the same name: their results look alike")
        if self.pooling == "cohort" and self.devices == 1:
            raise SettingsError("--pooling cohort needs --devices 2 or more")
        if self.transport != "virtual" and (self.devices > 1 or self.delay or self.drop):
            raise SettingsError("--devices, --delay and --drop need --transport virtual")
        if self.transport == "virtual" and self.pace != "lockstep":
            raise SettingsError("--pace: in virtual time every run is in lockstep")
        if self.transport == "virtual" and self.record is not None:
            raise SettingsError("--record needs --transport inprocess or mqtt")

    @property
    def cloud_methods(self) -> tuple[str, ...]:
        """The methods that have a cloud, and so something to record."""
        return tuple(name for name in self.methods if name in METHODS)

    @property
    def run_names(self) -> tuple[str, ...]:
        """What the results call each run of a method: a stream, or the scenario of all of them."""
        if self.scenario in ONE_STREAM_A_RUN:
            return tuple(stream.stem for stream in self.streams)
        return (self.scenario,)

    @property
    def device_names(self) -> tuple[str, ...]:
        """Of all devices."""
        if self.devices == 1:
            return (DEVICE,)
        return tuple(f"{DEVICE}-{number}" for number in range(self.devices))

    def settings_of_edge(self, method: str) -> tuple[str, ...]:
        """What is assigned to every device, `key=value` each; the user's own come last."""
        own = _of_method(self.edge_assignments, method)
        if self.budget_bytes is None:
            return own
        return (f"budget.bytes_total={self.budget_bytes}", *own)

    def settings_of_cloud(self, method: str) -> tuple[str, ...]:
        """What is assigned to the cloud, `key=value` each."""
        return _of_method(self.cloud_assignments, method)

    def assignments(self, method: str) -> tuple[str, ...]:
        """What the user changed for a method: `edge:KEY=VALUE` and `cloud:KEY=VALUE`."""
        edge = (f"edge:{one}" for one in _of_method(self.edge_assignments, method))
        cloud = (f"cloud:{one}" for one in _of_method(self.cloud_assignments, method))
        return (*edge, *cloud)

    def recording_of(self, stream: str, method: str) -> Path | None:
        """The recording of one run: `record`, with the run's name in it if there are several."""
        if self.record is None:
            return None
        runs = len(self.cloud_methods) * len(self.run_names) * self.seeds
        if runs == 1:
            return self.record
        seed = f"-{self.seed}" if self.seeds > 1 else ""
        return self.record.with_stem(f"{self.record.stem}-{stream}-{method}{seed}")


@dataclass(frozen=True, slots=True)
class Task:
    """One run: a method and a seed, on one stream or on all of them."""

    plan: Plan
    """With the run's own seed."""
    name: str
    method: str

    @property
    def streams(self) -> tuple[Path, ...]:
        """The streams of this run."""
        if self.plan.scenario in ONE_STREAM_A_RUN:
            return tuple(stream for stream in self.plan.streams if stream.stem == self.name)
        return self.plan.streams


def tasks_of(plan: Plan) -> tuple[Task, ...]:
    """Every run of a plan: by seed, then by stream, then by method.

    A baseline that draws no number runs with every seed, too: the seed orders the images.
    """
    return tuple(
        Task(replace(plan, seed=seed), name, method)
        for seed in range(plan.seed, plan.seed + plan.seeds)
        for name in plan.run_names
        for method in plan.methods
    )


def _of_method(assignments: tuple[str, ...], method: str) -> tuple[str, ...]:
    """Those for every method, and those for this one, without its name."""
    chosen = []
    for assignment in assignments:
        key = assignment.partition("=")[0]
        name, colon, _ = key.partition(":")
        if not colon:
            chosen.append(assignment)
        elif name == method:
            chosen.append(assignment.removeprefix(f"{name}:"))
        elif name not in METHODS:
            raise SettingsError(f"{assignment!r}: {name!r} is none of {', '.join(METHODS)}")
    return tuple(chosen)


def edge_defaults(method: str) -> dict[str, Any]:
    """The edge settings a method asks for, which the user's own are laid over."""
    return edge_document(method) if method in METHODS else {}
