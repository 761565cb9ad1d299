"""Ledgers with many versions, made by the real consumer on tiny models, and recordings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from tests import tiny

from driftwell.cloud.adaptation import AdaptedState
from driftwell.cloud.cohort import Cohort
from driftwell.cloud.settings import (
    CloudSettings,
    MethodSettings,
    PolicySettings,
    ReplaySettings,
    method_document,
)
from driftwell.cloud.virtual import VirtualCloud, open_virtual_cloud
from driftwell.messages.codec import encode
from driftwell.messages.images import Pixels, pack_images
from driftwell.messages.stream import StreamBatch, pack_stream_columns
from driftwell.messages.topics import Kind, device_topic
from driftwell.models.bundle import Bundle
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage
from driftwell.recording.writer import RecordingWriter

STEP = 16
SAMPLES = device_topic("default", "cam-1", Kind.SAMPLES)
STREAM = device_topic("default", "cam-1", Kind.STREAM)


def pictures(count: int, seed: int) -> Pixels:
    """Bars and gradients with noise: uint8 (count, 8, 8, 1), unlike each other."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:8, 0:8]
    angles = generator.uniform(0, np.pi, count)[:, None, None]
    speeds = generator.uniform(0.3, 3.0, count)[:, None, None]
    waves = np.sin(speeds * (np.cos(angles) * rows + np.sin(angles) * columns))
    levels = generator.uniform(40, 200, count)[:, None, None]
    noise = generator.normal(0, 10, (count, 8, 8))
    images = np.clip(levels + 50 * waves + noise, 0, 255).astype(np.uint8)
    return np.asarray(images[..., None])


@dataclass(frozen=True)
class Cloud:
    """A state folder to be, and the bundles of its cloud."""

    folder: Path
    edge: Bundle
    foundation: Bundle

    @property
    def state(self) -> Path:
        return self.folder / "cloud"

    @property
    def settings(self) -> CloudSettings:
        """Small steps that move little, so that one harmful version stands out."""
        method = msgspec.convert(method_document("cema"), MethodSettings)
        assert method.cema_tables is not None
        _, distillation, statistics = method.cema_tables
        quiet = msgspec.structs.replace(
            method,
            policy=PolicySettings(batch=STEP, minimum_batch=4),
            replay=ReplaySettings(capacity=64, minimum=16, batch=8),
            distillation=msgspec.structs.replace(distillation, learning_rate=1e-4),
            statistics=msgspec.structs.replace(statistics, momentum=0.02),
        )
        return CloudSettings(
            foundation=self.foundation.path, edge=self.edge.path, state_dir=self.state,
            method=quiet, threads=1,
        )  # fmt: skip

    def learn(self, versions: range, *, harmful: int | None = None) -> None:
        """Take one batch for each version; before `harmful` somebody turns the cohort's model."""
        torch.set_num_threads(1)  # on models so small, a second one only waits
        with running(self) as cloud:
            for number in versions:
                if number == harmful:
                    _harm(cloud, self.edge)
                self.take(cloud, number)

    def take(self, cloud: VirtualCloud, number: int) -> None:
        """Bring the batch with this number."""
        batch = tiny.make_batch(pictures(STEP, number), model=self.edge.digest, seq=number)
        cloud.take(SAMPLES, encode(batch), received_ns=tiny.NOW_NS + number * 10**9)

    def record(self, path: Path, images: Pixels, labels: NDArray[np.int64] | None) -> Path:
        """Write a recording of the raw stream of cam-1, in batches of 50."""
        with RecordingWriter(path, software="test", clock_s=time.monotonic) as writer:
            for first in range(0, len(images), 50):
                part = images[first : first + 50]
                known = None if labels is None else labels[first : first + 50].astype(np.uint16)
                payload = encode(self.stream(part, first, known), limit_bytes=MAX_MESSAGE)
                writer.write(RecordedMessage(STREAM, payload, tiny.NOW_NS, tiny.NOW_NS))
        return path

    def stream(
        self, images: Pixels, first: int, labels: NDArray[np.uint16] | None, cohort: str = "cam-1"
    ) -> StreamBatch:
        """One message of a raw stream."""
        count = len(images)
        columns = pack_stream_columns(
            np.arange(first, first + count, dtype=np.uint64), np.zeros(count, np.uint16),
            np.zeros(count, np.float32), np.zeros(count, np.uint8), labels,
        )  # fmt: skip
        return StreamBatch(
            device="cam-1", session=tiny.SESSION, seq=first + 1, clock_ns=tiny.NOW_NS,
            model=self.edge.digest, cohort=cohort, version=0, images=pack_images(images),
            columns=columns,
        )  # fmt: skip


@contextmanager
def running(cloud: Cloud) -> Iterator[VirtualCloud]:
    """The cloud at work, its state folder its own."""
    with open_virtual_cloud(
        cloud.settings, cloud.state, edge=cloud.edge, foundation=cloud.foundation,
        monotonic_s=time.monotonic,
    ) as opened:  # fmt: skip
        yield opened


def make_cloud(folder: Path) -> Cloud:
    """A cloud that has learned nothing yet."""
    return Cloud(folder, tiny.make_bundle(folder, "edge"), tiny.make_bundle(folder, "foundation"))


def _harm(cloud: VirtualCloud, edge: Bundle) -> None:
    cohort = cloud.consumer.cohorts.setdefault(
        "cam-1", Cohort("cam-1", cloud.consumer.learner.source, capacity=10)
    )
    state = cohort.models.edge
    arrays = {name: array.copy() for name, array in state.arrays.items()}
    arrays["bn2.weight"] *= -1
    harmed = AdaptedState(arrays, state.learning, is_fresh=state.is_fresh)
    cohort.models = replace(cohort.models, edge=harmed)
