"""No program of the demo outlives it, and one that fails is named."""

import asyncio
from pathlib import Path

import psutil
import pytest

from driftwell.tools.demo.fleet import Fleet, ProgramError, running_fleet

BROKER = ("broker", "run", "--port", "0")


async def fail_with_a_program(logs: Path, started: list[psutil.Process]) -> None:
    """Start a program, and fail."""
    async with running_fleet(logs) as fleet:
        before = psutil.Process().children()
        await fleet.start("cloud", BROKER)
        started += [child for child in psutil.Process().children() if child not in before]
        raise RuntimeError


async def until_ended(fleet: Fleet, name: str) -> None:
    """Wait for the end of a program; how it ended is what `check` says."""
    while not fleet.check(may_end=frozenset({name})):  # noqa: ASYNC110  # it sets no event
        await asyncio.sleep(0.05)


async def test_programs_end_with_the_block(tmp_path: Path) -> None:
    """Also when the block ends with an error."""
    started: list[psutil.Process] = []
    with pytest.raises(RuntimeError):
        await fail_with_a_program(tmp_path, started)

    assert len(started) == 1
    assert not started[0].is_running()


async def test_a_program_that_fails_is_named(tmp_path: Path) -> None:
    """With its exit code, and the end of what it said."""
    async with running_fleet(tmp_path) as fleet:
        await fleet.start("cam-fog", ("edge", "run", "--set", "nonsense"))
        with pytest.raises(ProgramError, match=r"(?s)cam-fog ended with code 2.*key=value"):
            await until_ended(fleet, "cam-fog")


async def test_a_cloud_that_ends_is_a_failure(tmp_path: Path) -> None:
    """Even with exit code 0: the cameras would go on for nothing."""
    async with running_fleet(tmp_path) as fleet:
        await fleet.start("cloud", ("--help",))
        await fleet.start("cam-fog", BROKER)
        with pytest.raises(ProgramError, match="cloud ended with code 0"):
            await until_ended(fleet, "cam-fog")
