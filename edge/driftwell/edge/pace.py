"""How fast a stream is answered: as fast as possible, at a rate, or in step with the cloud."""

import asyncio
from typing import Protocol

from driftwell.edge.device import Device
from driftwell.messages.errors import SettingsError


class Pace(Protocol):
    """Decides when the next batch may begin."""

    async def after_batch(self, device: Device, samples: int, /) -> None:
        """Wait until it may."""


class AsFastAsPossible:
    """No waiting."""

    async def after_batch(self, _device: Device, _samples: int, /) -> None:
        """Let the other loops run once."""
        await asyncio.sleep(0)


class AtRate:
    """So many samples a second, without drifting: a slow batch is made good by the next."""

    def __init__(self, samples_per_s: float) -> None:
        self._samples_per_s = samples_per_s
        self._due_s: float | None = None

    async def after_batch(self, device: Device, samples: int, /) -> None:
        """Wait until the batch's share of the time is over."""
        now_s = device.clocks.monotonic_s()
        begun_s = now_s if self._due_s is None else max(self._due_s, now_s - 1.0)
        self._due_s = begun_s + samples / self._samples_per_s
        await asyncio.sleep(max(0.0, self._due_s - now_s))


class Lockstep:
    """After each batch, wait until the cloud is done with it and its version was taken.

    So a run gives the same versions however slow the network is: for measuring.
    """

    async def after_batch(self, device: Device, _samples: int, /) -> None:
        """Wait as long as it takes; the spool and the resends see to it that it ends."""
        async with device.changed:
            await device.changed.wait_for(lambda: device.has_caught_up)


def parse_pace(spec: str) -> Pace:
    """Read `max`, `rate:N` or `lockstep`.

    Raises:
        SettingsError: if it is none of them.
    """
    match spec.partition(":"):
        case ("max", "", ""):
            return AsFastAsPossible()
        case ("lockstep", "", ""):
            return Lockstep()
        case ("rate", ":", number):
            try:
                rate = float(number)
            except ValueError:
                rate = 0.0
            if 0 < rate < float("inf"):
                return AtRate(rate)
        case _:
            pass
    raise SettingsError(f"pace {spec!r} is not understood; use max, rate:N (N > 0) or lockstep")
