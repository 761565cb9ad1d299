"""Hypothesis profiles, and the folder of real data sets.

`dev` is what runs by default; HYPOTHESIS_PROFILE=ci looks at more examples. Both
are derandomised: a failure is there for everybody, or for nobody.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from driftwell.tools.arithmetic import choose_arithmetic

# Before any test imports torch: what runs in this process and in programs gives the same bits.
choose_arithmetic(os.environ, default="portable")
# One thread each: on a few busy cores, threads that wait for one another take ten times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("dev", max_examples=50, derandomize=True, deadline=None)
settings.register_profile("ci", max_examples=200, derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A command that ran in this process has sent logs to where its own output went."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that use it carry the mark `data`."""
    folder = Path(os.environ.get("DRIFTWELL_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"DRIFTWELL_DATA is missing: there is no folder {folder}")
    return folder
