"""The demo's programs: one cloud and a device a camera, each a process like any user's."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driftwell.cloud.settings import CloudSettings, method_document
from driftwell.messages.errors import DriftwellError
from driftwell.tools.arithmetic import CHOICE
from driftwell.tools.configuration import read_settings
from driftwell.tools.demo.scene import Camera
from driftwell.tools.demo.training import Bundles
from driftwell.tools.readiness import until_logged

GROUP: Final = "demo"
GRACE_S: Final = 5.0
"""How long a program may take to end in good order."""
LOG_TAIL: Final = 600  # characters of a failed program's log in the error

# Two thousand small images, not days of camera pictures: batches are smaller than CEMA's, so
# that there are enough steps, and statistics follow faster.
CLOUD_SETTINGS: Final = (
    "method.policy.batch=16",
    "method.statistics.momentum=0.2",
    "method.replay.minimum=64",
)
EDGE_SETTINGS: Final = (
    "filter.e_max=0.8",
    "statistics=delivered",
    "telemetry_every_s=0.5",
    "spool.resend_s=2",  # a camera that is there before the cloud would wait ten seconds
)


class ProgramError(DriftwellError):
    """A program of the demo ended when it should not have."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a demo keeps what."""

    out: Path

    @property
    def logs(self) -> Path:
        """A log file a program."""
        return self.out / "logs"

    @property
    def streams(self) -> Path:
        """A stream a camera."""
        return self.out / "streams"

    @property
    def states(self) -> Path:
        """A state folder a program."""
        return self.out / "state"

    @property
    def recordings(self) -> Path:
        """A recording of its own stream a camera, where the demo is recorded."""
        return self.out / "recordings"

    @property
    def passing(self) -> tuple[Path, ...]:
        """Folders nobody needs after a demo that came to its end."""
        return self.streams, self.states, self.answers, self.recordings

    @property
    def answers(self) -> Path:
        """A file of predictions a camera."""
        return self.out / "predictions"

    def recording(self, device: str) -> Path:
        """The recorded stream of a device."""
        return self.recordings / f"{device}.mcap"

    def predictions(self, device: str) -> Path:
        """The answers of a device."""
        return self.answers / f"{device}.jsonl"


def cloud_arguments(bundles: Bundles, places: Places, *, url: str, seed: int) -> list[str]:
    """The cloud's command line."""
    return [
        "cloud", "run", "--method", "cema", "--foundation", str(bundles.foundation.path),
        "--edge", str(bundles.edge.path), "--broker", url, "--group", GROUP,
        "--state", str(places.states / "cloud"), "--seed", str(seed), "--threads", "1",
        *_assignments(CLOUD_SETTINGS),
    ]  # fmt: skip


def cloud_settings(bundles: Bundles, *, seed: int) -> CloudSettings:
    """What the cloud makes of its command line, for the recording."""
    return read_settings(
        CloudSettings,
        defaults={"method": method_document("cema")},
        assignments=CLOUD_SETTINGS,
        flags={
            "foundation": bundles.foundation.path, "edge": bundles.edge.path,
            "group": GROUP, "seed": seed,
        },
    )  # fmt: skip


def edge_arguments(
    camera: Camera, bundles: Bundles, places: Places, *, url: str, pace: str, is_recorded: bool
) -> list[str]:
    """A device's command line."""
    recording = ["--record", str(places.recording(camera.name))] if is_recorded else []
    return [
        "edge", "run", "--method", "cema",
        "--bundle", str(bundles.edge.path), "--source", f"npz:{camera.stream}",
        "--device", camera.name, "--broker", url, "--group", GROUP,
        "--state", str(places.states / camera.name), "--batch", "20", "--pace", pace,
        "--predictions", str(places.predictions(camera.name)), "--threads", "1",
        *recording, *_assignments(EDGE_SETTINGS),
    ]  # fmt: skip


def _assignments(settings: Sequence[str]) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


class Fleet:
    """The running programs; whatever happens, none outlives the block that started them."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._programs: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start one `driftwell` command with a log file of its own."""
        self._logs.mkdir(parents=True, exist_ok=True)
        # Settings of the user's own devices are none of the demo's.
        environment = {
            k: v for k, v in os.environ.items() if k == CHOICE or not k.startswith("DRIFTWELL_")
        }
        with self._log(name).open("wb") as log:
            self._programs[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "driftwell.tools.cli", *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                env={**environment, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    async def until_ready(self, name: str, event: str) -> None:
        """Wait until a program has logged an event.

        Raises:
            BrokerError: if it ended before, or took too long.
        """
        program = self._programs[name]
        await until_logged(self._log(name), event, has_ended=lambda: program.returncode is not None)

    def check(self, *, may_end: frozenset[str]) -> bool:
        """Whether all that may end have ended, and well.

        Raises:
            ProgramError: if one has failed, or ended that should not.
        """
        for name, program in self._programs.items():
            code = program.returncode
            if code is not None and (code != 0 or name not in may_end):
                log = self._log(name)
                tail = log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:].strip()
                said = f"{name} ended with code {code}; {log} ends with:\n{tail}"
                raise ProgramError(said)  # errors are printed as rich markup
        return all(self._programs[name].returncode is not None for name in may_end)

    async def stop(self) -> None:
        """End every program: asked first, then made to."""
        running = [p for p in self._programs.values() if p.returncode is None]
        for program in running:
            with contextlib.suppress(ProcessLookupError):
                program.terminate()
        try:
            async with asyncio.timeout(GRACE_S):
                for program in running:
                    await program.wait()
        finally:
            for program in running:
                if program.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        program.kill()
            for program in running:
                await program.wait()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


@contextlib.asynccontextmanager
async def running_fleet(logs: Path) -> AsyncIterator[Fleet]:
    """An empty fleet; leaving the block ends all programs started in it."""
    fleet = Fleet(logs)
    try:
        yield fleet
    finally:
        with contextlib.suppress(TimeoutError):
            await fleet.stop()
