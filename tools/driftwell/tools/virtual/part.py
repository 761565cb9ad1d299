"""Pure. What a rig is given: batches of devices, each with its time."""

from typing import Protocol

from driftwell.recording.batches import Batch

Run = tuple[str, str]
"""A device, and one session of it: from one start of its program to the next."""


class Part(Protocol):
    """One batch that a device is to answer."""

    @property
    def run(self) -> Run:
        """Whose it is."""

    @property
    def time_ns(self) -> int:
        """When the device has it, in nanoseconds since the Unix epoch."""

    def batch(self) -> Batch:
        """Images and labels."""
