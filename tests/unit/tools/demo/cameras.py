"""Cameras without a fleet, for tests."""

from pathlib import Path

import numpy as np

from driftwell.tools.demo.record import Record, Tail
from driftwell.tools.demo.scene import Camera
from driftwell.tools.demo.weather import WEATHERS


def record(folder: Path, *, images: int = 8) -> Record:
    """The record of a camera that sees the digits 0, 1, 2, ... and knows every second."""
    labels = np.arange(images, dtype=np.int64) % 10
    camera = Camera(WEATHERS[0], folder / "stream.npz", labels, labels % 2 == 0)
    return Record(camera, Tail(folder / "answers.jsonl"))


def line(index: int, label: int, *, verdict: str = "selected", version: int = 1) -> bytes:
    """One answer, as the daemon writes it."""
    return (
        f'{{"index":{index},"label":{label},"class":"{label}","confidence":0.5,'
        f'"entropy":1.0,"verdict":"{verdict}","version":{version}}}\n'
    ).encode()
