"""Pure. What came of a replay, and how it is told."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """One version, in the order of `driftwell cloud versions`."""

    cohort: str
    version: int
    digest: str


@dataclass(slots=True)
class CloudReplay:
    """A replay into a cloud; times in seconds."""

    versions: list[Version] = field(default_factory=list)
    messages: int = 0
    recorded_s: float = 0.0
    """From the first to the last message."""
    taken_s: float = 0.0
    training_s: float = 0.0
    jumps: int = 0
    """How often the recorder's clock went back."""
    is_taught_otherwise: bool = False
    """Another foundation bundle taught than in the recorded run."""
    refused: Counter[str] = field(default_factory=Counter)
    """What the cloud refused, by code, and what could not be told under another name."""

    @property
    def speed(self) -> float:
        """Recorded seconds a second."""
        return self.recorded_s / max(self.taken_s, 1e-9)

    @property
    def training_share(self) -> float:
        """Of the time taken."""
        return self.training_s / max(self.taken_s, 1e-9)

    def lines(self) -> list[str]:
        """The end of the replay in words."""
        cohorts = len({version.cohort for version in self.versions})
        told = [
            f"{self.messages} messages made {len(self.versions)} versions of {cohorts} cohorts",
            self._timing(),
        ]
        if self.is_taught_otherwise:
            told.append(
                "another foundation model taught than in the recorded run: "
                "these are not its versions"
            )
        return told + _troubles(self.refused, self.jumps)

    def _timing(self) -> str:
        return (
            f"{self.recorded_s:.1f} s of recording took {self.taken_s:.2f} s, "
            f"{self.speed:.3g} times as fast; {self.training_s:.2f} s of that "
            f"({100 * self.training_share:.0f} %) was training, the floor of any replay"
        )

    def as_json(self) -> str:
        """Everything, for programs."""
        return json.dumps(
            {
                "versions": [
                    {"cohort": one.cohort, "version": one.version, "digest": one.digest}
                    for one in self.versions
                ],
                "messages": self.messages,
                "recorded_s": round(self.recorded_s, 6),
                "taken_s": round(self.taken_s, 6),
                "training_s": round(self.training_s, 6),
                "clock_went_back": self.jumps,
                "other_foundation": self.is_taught_otherwise,
                "refused": dict(self.refused),
            },
            indent=2,
        )


@dataclass(slots=True)
class BrokerReplay:
    """A replay to a broker; times in seconds."""

    messages: int = 0
    """Taken by the broker."""
    payload_bytes: int = 0
    taken_s: float = 0.0
    passes: int = 1
    resent: int = 0
    """Sent again, because nobody knew whether the broker had them."""
    jumps: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """What the broker would not take, by reason, and what was left out, by code."""

    def lines(self) -> list[str]:
        """The end of the replay in words."""
        rate = self.messages / max(self.taken_s, 1e-9)
        megabytes = self.payload_bytes / 1e6
        first = f"{self.messages} messages, {megabytes:.2f} MB in {self.taken_s:.2f} s"
        told = [f"{first}, {rate:.0f} messages a second; {self.refused.total()} refused"]
        if self.passes > 1:
            told.append(f"passes over the recording: {self.passes}")
        if self.resent:
            told.append(f"sent again after a lost connection: {self.resent}")
        return told + _troubles(self.refused, self.jumps)


def _troubles(refused: Mapping[str, int], jumps: int) -> list[str]:
    told = []
    if refused:
        parts = ", ".join(f"{code} {count}" for code, count in sorted(refused.items()))
        told.append(f"refused: {parts}")
    if jumps:
        often = "once" if jumps == 1 else f"{jumps} times"
        told.append(
            f"the recorder's clock went back {often}; the order of the file was kept, and "
            "time stood still until the clock had caught up"
        )
    return told
