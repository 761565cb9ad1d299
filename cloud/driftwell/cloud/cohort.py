"""One cohort in memory: its models, its pending samples, its replay buffer.

All of it can be rebuilt from the ledger, and is after a restart.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from driftwell.cloud.adaptation import AdaptedState
from driftwell.cloud.learner import CohortModels, Origin
from driftwell.cloud.policy import Plan
from driftwell.cloud.replay import choose_replay, step_generator
from driftwell.cloud.settings import ReplaySettings
from driftwell.cloud.tables import StoredBatch
from driftwell.messages.images import Pixels
from driftwell.messages.signature import Signature

Taken = list[tuple[StoredBatch, int]]
"""Batches in order, and how many further samples of each."""


@dataclass(frozen=True, slots=True)
class Work:
    """One step to run, with everything it needs."""

    cohort: "Cohort"
    plan: Plan
    uploads: Pixels
    replay: Pixels
    taken: Taken
    generator: np.random.Generator
    """The step's own randomness, after the replayed images were drawn with it."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """An image of the replay buffer, and where it comes from."""

    batch_id: int
    image: NDArray[np.uint8]


class Cohort:
    """Devices that share one adapted state: of a cohort, those that see the same domain."""

    def __init__(self, name: str, models: CohortModels, *, capacity: int) -> None:
        self.name = name
        self.models = models
        self.version = 0
        self.result = ""
        """The digest of the newest version's state; empty before the first."""
        self.signature: Signature | None = None
        """What its images look like, where its devices watch for drift."""
        self.members: set[str] = set()
        self._pending: deque[tuple[StoredBatch, Pixels]] = deque()
        self._buffer: deque[_Kept] = deque(maxlen=capacity)
        self.pending = 0
        """Samples that wait for a step."""

    @property
    def buffered(self) -> int:
        """Images in the replay buffer."""
        return len(self._buffer)

    @property
    def oldest_batch_id(self) -> int:
        """The oldest batch the buffer still holds an image of."""
        return self._buffer[0].batch_id if self._buffer else 0

    def push(self, batch: StoredBatch, images: Pixels) -> None:
        """Add a stored batch; what was used of it before a restart goes to the buffer."""
        self.members.add(batch.device)
        self._keep(batch, images[: batch.used])
        rest = images[batch.used :]
        if len(rest):
            self._pending.append((batch, rest))
            self.pending += len(rest)

    def _keep(self, batch: StoredBatch, images: Pixels) -> None:
        self._buffer.extend(_Kept(batch.id, image) for image in images)

    def peek(self, samples: int) -> tuple[Pixels, Taken]:
        """The oldest pending samples, left where they are."""
        images: list[Pixels] = []
        taken: Taken = []
        wanted = samples
        for batch, rest in self._pending:
            if wanted == 0:
                break
            images.append(rest[:wanted])
            taken.append((batch, len(images[-1])))
            wanted -= len(images[-1])
        return np.concatenate(images), taken

    def use(self, samples: int) -> None:
        """Move the oldest pending samples to the replay buffer."""
        self.pending -= samples
        while samples:
            batch, rest = self._pending.popleft()
            self._keep(batch, rest[:samples])
            if len(rest) > samples:
                self._pending.appendleft((batch, rest[samples:]))
            samples -= min(samples, len(rest))

    def work(
        self, plan: Plan, *, replay: ReplaySettings, seed: int, shape: tuple[int, int, int]
    ) -> Work:
        """Gather a step's images; nothing moves until the commit."""
        uploads, taken = self.peek(plan.learn)
        generator = step_generator(seed, self.name, self.models.steps)
        positions = choose_replay(replay, self.buffered, generator)
        return Work(self, plan, uploads, self.replayed(positions, shape), taken, generator)

    def replayed(self, positions: Iterable[int], shape: tuple[int, int, int]) -> Pixels:
        """The buffer's images at `positions`: uint8 (M, H, W, C), M >= 0."""
        wanted = sorted(int(position) for position in positions)
        images: list[NDArray[np.uint8]] = []
        entries = iter(self._buffer)
        at = 0
        for position in wanted:  # one pass: a deque has no quick way into its middle
            images.append(next(islice(entries, position - at, None)).image)
            at = position + 1
        return np.stack(images) if images else np.zeros((0, *shape), np.uint8)


def encode_models(models: CohortModels) -> bytes:
    """A cohort's models as safetensors, for the ledger."""
    arrays: dict[str, NDArray[np.generic]] = {
        "steps": np.array([models.steps], np.int64),
        "samples": np.array([models.samples], np.int64),
    }
    for network, state in (("foundation", models.foundation), ("edge", models.edge)):
        arrays[f"{network}/fresh"] = np.array([state.is_fresh], np.uint8)
        arrays.update({f"{network}/arrays/{name}": array for name, array in state.arrays.items()})
        arrays.update({f"{network}/{name}": array for name, array in state.learning.items()})
    if len(models.targets):
        arrays["targets"] = models.targets
    if models.origin is not None:
        arrays["origin"] = np.frombuffer(models.origin.name.encode(), np.uint8)
        arrays["origin/steps"] = np.array([models.origin.steps], np.int64)
    return save(arrays)


def decode_models(content: bytes, order: CohortModels) -> CohortModels:
    """Give models back, their arrays in the order of `order` (any cohort's)."""
    arrays = load(content)
    steps = int(arrays["steps"][0])

    def state(network: str, like: AdaptedState) -> AdaptedState:
        part = f"{network}/"
        learning = {
            name.removeprefix(part): np.asarray(array, np.float32)
            for name, array in arrays.items()
            if name.startswith(part) and not name.startswith((f"{part}arrays/", f"{part}fresh"))
        }
        # Before there were reverts nothing was fresh but a cohort without a step.
        fresh = arrays.get(f"{network}/fresh", np.array([steps == 0]))
        return AdaptedState(
            {name: arrays[f"{network}/arrays/{name}"] for name in like.arrays},
            learning,
            is_fresh=bool(fresh[0]),
        )

    return CohortModels(
        state("foundation", order.foundation),
        state("edge", order.edge),
        steps,
        int(arrays["samples"][0]),
        arrays.get("targets", order.targets),
        _origin(arrays),
    )


def _origin(arrays: dict[str, NDArray[np.generic]]) -> Origin | None:
    if "origin" not in arrays:
        return None
    return Origin(arrays["origin"].tobytes().decode(), int(arrays["origin/steps"][0]))
