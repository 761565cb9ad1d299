"""Pure. When a cohort learns, from how many of its pending samples."""

from dataclasses import dataclass

from driftwell.cloud.settings import PolicySettings


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with a cohort's pending samples, oldest first."""

    learn: int = 0
    """Samples for one step; 0: no step now."""
    expire: int = 0
    """Samples to give up."""

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do until more samples come."""
        return self.learn == 0 and self.expire == 0


def plan_step(settings: PolicySettings, pending: int, *, has_ended: bool) -> Plan:
    """Decide the next step.

    A full batch is learned from at once. What is left of one waits for more, unless no
    device of the cohort is there any more (`has_ended`): then it is learned from if it is
    large enough for meaningful statistics, and expires if not.
    """
    if pending >= settings.batch:
        return Plan(learn=settings.batch)
    if not has_ended or pending == 0:
        return Plan()
    if pending >= settings.minimum_batch:
        return Plan(learn=pending)
    return Plan(expire=pending)
