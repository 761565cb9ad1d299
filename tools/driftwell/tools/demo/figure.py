"""The demo's figure: each camera's accuracy over its stream, with adaptation and without."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from driftwell.tools.demo.record import WINDOW, Record

ADAPTED: Final = "#0a7d5a"
UNAIDED: Final = "#b4472f"
GREY: Final = "#777777"


def trailing_mean(correct: NDArray[np.bool_], window: int) -> NDArray[np.float64]:
    """(N,) -> (N,): mean of the last `window` values up to each, of fewer at the beginning."""
    total = np.concatenate([[0.0], np.cumsum(correct, dtype=np.float64)])
    end = np.arange(1, len(correct) + 1)
    begin = np.maximum(0, end - window)
    return np.asarray((total[end] - total[begin]) / (end - begin))


def draw_accuracy(records: Sequence[Record], file: Path) -> None:
    """Write the figure as PNG."""
    figure = Figure(figsize=(12, 3.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(records), sharey=True, squeeze=False)[0]
    for axis, record in zip(axes, records, strict=True):
        _draw_camera(axis, record)
    axes[0].set_ylabel(f"accuracy over the last {WINDOW} images, %")
    axes[0].legend(loc="lower left", frameon=False)
    figure.savefig(file, format="png")


def _draw_camera(axis: Axes, record: Record) -> None:
    camera = record.camera
    unaided = camera.unaided[: record.seen]
    axis.plot(100 * trailing_mean(unaided, WINDOW), color=UNAIDED, label="without adaptation")
    axis.plot(100 * trailing_mean(record.correct, WINDOW), color=ADAPTED, label="with Driftwell")
    axis.axvline(camera.shift_at, color=GREY, linestyle="--", linewidth=1)
    axis.text(camera.shift_at, 102, f" {camera.weather.name} begins", color=GREY, fontsize=9)
    axis.set_title(camera.name, loc="left", fontsize=11)
    axis.set_xlabel("images")
    axis.set_ylim(0, 109)
    axis.spines[["top", "right"]].set_visible(False)
