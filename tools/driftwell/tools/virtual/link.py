"""Pure. What stands between a device and the cloud in virtual time: it is late, and it loses."""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from driftwell.cloud.placement import Stay
from driftwell.cloud.tables import StoredVersion


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """How bad the link is; by default it is perfect."""

    delay_batches: int = 0
    """So many batches of the device are answered before a version reaches it."""
    drop: float = 0.0
    """Probability, 0 to 1, with which a sample batch or a head is lost."""
    seed: int = 0


@dataclass(slots=True)
class Link:
    """The link of one device.

    Sample batches reach the cloud at once or never; the cloud's versions come late or never. A
    real device sends again what the cloud does not acknowledge: a lost sample batch stands for
    one that the device gave up. Deltas are cumulative, so that a lost version costs nothing but
    the time until the next one.
    """

    settings: LinkSettings
    generator: np.random.Generator
    _coming: deque[tuple[int, StoredVersion | Stay]] = field(default_factory=deque)

    def is_lost(self) -> bool:
        """Whether the next message is lost; a link that loses nothing draws no number."""
        return self.settings.drop > 0 and bool(self.generator.random() < self.settings.drop)

    def send(self, sent: StoredVersion | Stay, *, answered: int) -> None:
        """Put a version, or an ack's word, on its way; the device has answered so many batches."""
        self._coming.append((answered + self.settings.delay_batches, sent))

    def arrived(self, *, answered: int) -> list[StoredVersion | Stay]:
        """Take what is there when the device has answered so many batches."""
        there = []
        while self._coming and self._coming[0][0] <= answered:
            there.append(self._coming.popleft()[1])
        return there
