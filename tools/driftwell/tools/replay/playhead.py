"""Pure. The playhead: where a replay is, how fast it goes, and when a message is due."""

import math
from dataclasses import dataclass, replace

from driftwell.tools.replay.timeline import SECOND_NS


@dataclass(frozen=True, slots=True)
class Playhead:
    """A place on the recording's time, at a moment of the player's own clock."""

    time_ns: int
    """Where it was at `set_s`, in recorded time."""
    set_s: float
    """Monotonic seconds."""
    speed: float
    """Recorded seconds a second; infinite: as fast as the messages go out."""
    is_paused: bool = False
    steps: int = 0
    """Messages that go out although it is paused."""

    def at(self, now_s: float) -> int:
        """Where it is now, in recorded time."""
        if self.is_paused or math.isinf(self.speed):
            return self.time_ns
        return self.time_ns + int((now_s - self.set_s) * self.speed * SECOND_NS)

    def wait_s(self, due_ns: int, now_s: float) -> float | None:
        """How long until a message that is due at `due_ns` goes out; None: not before `go`."""
        if self.is_paused:
            return 0.0 if self.steps else None
        if math.isinf(self.speed):
            return 0.0
        return max(0.0, (due_ns - self.at(now_s)) / SECOND_NS / self.speed)

    def played(self, due_ns: int) -> "Playhead":
        """A message went out: a step, or a replay without pace, has come as far as that."""
        if self.is_paused:
            time_ns = max(self.time_ns, due_ns)
            return replace(self, time_ns=time_ns, steps=max(0, self.steps - 1))
        if math.isinf(self.speed):
            return replace(self, time_ns=max(self.time_ns, due_ns))
        return self

    def pause(self, now_s: float) -> "Playhead":
        """Stand still."""
        return replace(self, time_ns=self.at(now_s), set_s=now_s, is_paused=True)

    def go(self, now_s: float) -> "Playhead":
        """Go on from here."""
        return replace(self, time_ns=self.at(now_s), set_s=now_s, is_paused=False, steps=0)

    def step(self, count: int) -> "Playhead":
        """Let so many more messages out while paused; without effect if it runs."""
        return replace(self, steps=self.steps + count) if self.is_paused else self

    def seek(self, time_ns: int, now_s: float) -> "Playhead":
        """Go on, or stand still, from another place."""
        return replace(self, time_ns=time_ns, set_s=now_s, steps=0)

    def at_beginning(self, time_ns: int, now_s: float) -> "Playhead":
        """Begin another pass: paused or not, with the steps that are left."""
        return replace(self, time_ns=time_ns, set_s=now_s)

    def at_speed(self, speed: float, now_s: float) -> "Playhead":
        """Go on from here at another speed."""
        return replace(self, time_ns=self.at(now_s), set_s=now_s, speed=speed)
