"""Pure. Which images of a cohort's buffer are replayed with a step."""

import zlib

import numpy as np
from numpy.typing import NDArray

from driftwell.cloud.settings import ReplaySettings


def step_generator(seed: int, cohort: str, step: int) -> np.random.Generator:
    """The randomness of one step: the same after a restart, and on every machine."""
    return np.random.default_rng([seed, zlib.crc32(cohort.encode()), step])


def choose_replay(
    settings: ReplaySettings, available: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Positions in the buffer, without repetition; none while the buffer is small."""
    if available < settings.minimum:
        return np.zeros(0, dtype=np.int64)
    return generator.permutation(available)[: settings.batch]
