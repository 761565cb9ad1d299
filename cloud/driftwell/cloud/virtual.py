"""A whole cloud driven by recorded messages: no network, no threads, no clock of its own.

The same `Consumer`, learner and ledger as the program's. Time is what the messages say,
and a message is followed by every step it allows before the next one is looked at. So the
same messages in the same order, with the same settings, give the same versions, however
fast they come.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from driftwell.cloud.assembly import open_consumer
from driftwell.cloud.beginnings import begin_cohorts
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.intake import take_message
from driftwell.cloud.reverting import carry_out_reverts
from driftwell.cloud.settings import CloudSettings
from driftwell.cloud.tables import StoredVersion
from driftwell.messages.errors import SettingsError
from driftwell.models.bundle import Bundle

SESSION = "0" * 16


class VirtualClock:
    """Nanoseconds since the Unix epoch, as the messages tell them; never goes back."""

    def __init__(self) -> None:
        self._now_ns = 0

    def __call__(self) -> int:
        """What time it is."""
        return self._now_ns

    def advance_to(self, time_ns: int) -> None:
        """It is `time_ns` now, or still later: a recorder's clock may have jumped back."""
        self._now_ns = max(self._now_ns, time_ns)


class VirtualCloud:
    """Messages in, versions out."""

    def __init__(
        self, consumer: Consumer, clock: VirtualClock, *, monotonic_s: Callable[[], float]
    ) -> None:
        self.consumer = consumer
        self.training_s = 0.0
        """Real seconds spent in learning steps: what a replay cannot be faster than."""
        self._clock = clock
        self._monotonic_s = monotonic_s

    def take(self, topic: str, payload: bytes, *, received_ns: int) -> list[StoredVersion]:
        """Take one message at its time; every version it led to, oldest first.

        What cannot be used is refused and counted in `consumer.counters`, as in the program.
        """
        self._clock.advance_to(received_ns)
        take_message(self.consumer, topic, payload)
        return self._learn()

    def _learn(self) -> list[StoredVersion]:
        versions = [*carry_out_reverts(self.consumer), *begin_cohorts(self.consumer)]
        while (work := self.consumer.next_work()) is not None:
            began_s = self._monotonic_s()
            step = self.consumer.learner.step(
                work.cohort.models, work.uploads, work.replay, work.generator
            )
            self.training_s += self._monotonic_s() - began_s
            version = self.consumer.commit(work, step)
            if version is not None:
                versions.append(version)
        return versions


@contextmanager
def open_virtual_cloud(
    settings: CloudSettings,
    folder: Path,
    *,
    edge: Bundle,
    foundation: Bundle,
    monotonic_s: Callable[[], float],
) -> Iterator[VirtualCloud]:
    """A virtual cloud whose state is in `folder`, made if it is not there.

    Args:
        settings: `edge`, `foundation`, `state_dir`, `broker` and `threads` are not looked at.
        folder: Ledger, versions, signing key.
        edge: The bundle whose versions are made.
        foundation: The bundle that teaches.
        monotonic_s: Measures the steps; nothing is decided by it.

    Raises:
        DriftwellError: if the bundles do not fit each other or the folder, or the disk is full.
    """
    clock = VirtualClock()
    with open_consumer(
        settings,
        folder,
        edge=edge,
        foundation=foundation,
        session=SESSION,
        wall_ns=clock,
        survives_power_failure=False,
    ) as consumer:
        try:
            yield VirtualCloud(consumer, clock, monotonic_s=monotonic_s)
        except sqlite3.OperationalError as error:
            raise SettingsError(f"{folder} does not take it: {error}; is the disk full?") from error
