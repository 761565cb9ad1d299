"""What a demo shows: three cameras, their streams on disk, and what comes of each without help."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftwell.models.bundle import Bundle
from driftwell.tools.demo.digits import Samples, make_stream
from driftwell.tools.demo.weather import WEATHERS, Weather


@dataclass(frozen=True, slots=True)
class Camera:
    """One device: its weather, its stream, and the bundle's own answers to it."""

    weather: Weather
    stream: Path
    labels: NDArray[np.int64]
    unaided: NDArray[np.bool_]
    """Whether the bundle's network, never adapted, is right; (N,)."""

    @property
    def name(self) -> str:
        """The device's name."""
        return self.weather.device

    @property
    def shift_at(self) -> int:
        """The first image in the weather."""
        return len(self.labels) // 2


def set_scene(
    folder: Path, held_out: Samples, edge: Bundle, *, samples: int, seed: int
) -> list[Camera]:
    """Write each camera's stream to `folder`, and answer it with the network as it was made."""
    folder.mkdir(parents=True, exist_ok=True)
    network = edge.network()
    cameras = []
    for number, weather in enumerate(WEATHERS):
        source = np.random.default_rng([seed, 1, number])
        stream = make_stream(held_out, weather, samples, source)
        path = folder / f"{weather.device}.npz"
        np.savez(path, x=stream.images, y=stream.labels)
        answers = network.logits(stream.images).argmax(axis=1)
        cameras.append(Camera(weather, path, stream.labels, answers == stream.labels))
    return cameras
