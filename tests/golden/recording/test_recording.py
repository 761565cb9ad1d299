"""The golden recording, replayed as a user would: the digests of every version, frozen by build."""

import json
import subprocess

import pytest
from tests.golden.recording.write import (
    COHORTS,
    DIGESTS,
    RECORDING,
    SEED,
    build_name,
    replay_command,
    replay_environment,
)

from driftwell.recording.reader import Recording

LIMIT_S = 100
VERSIONS = {"cam-1": 8, "yard": 17}


def replay(*options: str) -> list[str]:
    done = subprocess.run(
        replay_command(*options), check=False, capture_output=True, text=True, timeout=LIMIT_S,
        env=replay_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def replayed() -> list[str]:
    """The digests of the versions that the recording makes."""
    return replay()


def frozen() -> list[str]:
    known: dict[str, list[str]] = json.loads(DIGESTS.read_text())
    if build_name() not in known:
        pytest.skip(
            f"no digests of torch {build_name()} are known; "
            "python -m tests.golden.recording.write adds them"
        )
    return known[build_name()]


def test_the_golden_digests(replayed: list[str]) -> None:
    """The golden recording makes the frozen versions, whatever the number of threads."""
    expected = frozen()

    assert replayed == expected
    assert replay("--threads", "2", "--speed", "1000") == expected


def test_another_seed_makes_other_versions(replayed: list[str]) -> None:
    """The seed decides what is repeated: a cohort is the same only until it repeats anything."""
    other = replay("--seed", str(SEED + 1))

    assert len(replayed) == len(other) == VERSIONS["cam-1"] + VERSIONS["yard"]
    assert replayed[0] == other[0]
    for newest in (VERSIONS["cam-1"] - 1, -1):
        assert replayed[newest] != other[newest]


def test_the_golden_recording_is_small_and_holds_what_it_says() -> None:
    """It fits into a repository, and every device and the cloud's settings are in it."""
    with Recording(RECORDING) as recording:
        devices, documents = recording.devices, recording.documents()

    assert RECORDING.stat().st_size < 100_000
    assert devices == sorted(COHORTS)
    assert json.loads(documents["settings:cloud:golden"])["seed"] == SEED
