"""Pure. What an elastic bench is asked to do, and the runs that come of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driftwell.messages.errors import SettingsError

SHARES: Final = (0.2, 0.35, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Shares:
    """Of what the full network needs: what a device's limits are drawn from, each above 0.

    A very small network is as slow as its calls, whatever its width. Then no network may keep a
    limit of latency below 1, and shares above 1 ask more.
    """

    memory: tuple[float, ...] = SHARES
    latency: tuple[float, ...] = SHARES
    download: tuple[float, ...] = SHARES

    def __post_init__(self) -> None:
        for drawn in (self.memory, self.latency, self.download):
            if not drawn or min(drawn) <= 0:
                raise SettingsError("shares of a budget: one or more, each above 0")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: every method with every skew and seed on one problem."""

    problem: str
    """A name of `problems.PROBLEMS`."""
    methods: tuple[str, ...]
    skews: tuple[int, ...]
    """Classes of a device."""
    seeds: tuple[int, ...]
    devices: int = 10
    steps: int = 5
    path: Path | None = None
    """The problem's data, where they need a file."""
    limit: int | None = None
    """Images of that file at most; None: all."""
    shares: Shares | None = None
    """None: the problem's own."""

    def __post_init__(self) -> None:
        for name in ("methods", "skews", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise SettingsError(f"{name}: name one or more, each once")
        if self.devices < 1 or self.steps < 1:
            raise SettingsError("devices and steps are 1 or more each")
        if min(self.seeds) < 0:
            raise SettingsError("a seed is 0 or more")


@dataclass(frozen=True, slots=True)
class Task:
    """One run."""

    seed: int
    skew: int
    method: str


def tasks_of(plan: Plan) -> tuple[Task, ...]:
    """Every run of a plan: by seed, then by skew, then by method."""
    return tuple(
        Task(seed, skew, method)
        for seed in plan.seeds
        for skew in plan.skews
        for method in plan.methods
    )
