"""The bench itself: every stream with every method, one `Result` each."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from driftwell.edge.sources import read_stream
from driftwell.messages.errors import SourceError
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.tools.bench.baselines import BASELINES
from driftwell.tools.bench.loop import run_stream
from driftwell.tools.bench.plan import Plan
from driftwell.tools.bench.results import Result

CONTINUAL: Final = "continual"


def run_bench(plan: Plan, announce: Callable[[str, str], None]) -> Iterator[Result]:
    """Yield a result for each stream and method, in that order.

    Args:
        plan: What to measure.
        announce: Called with stream and method before each.

    Raises:
        DriftwellError: if a bundle, a stream or a daemon fails.
    """
    torch.set_num_threads(plan.threads)
    edge = open_bundle(plan.edge)
    with tempfile.TemporaryDirectory(prefix="driftwell-bench-") as scratch:
        for name, file in _streams(plan, edge, Path(scratch)):
            for method in plan.methods:
                announce(name, method)
                if method in BASELINES:
                    result = _run_baseline(plan, edge, method, name, file)
                else:
                    result = _run_method(plan, edge, method, name, file)
                yield result


def _streams(plan: Plan, edge: Bundle, scratch: Path) -> Iterator[tuple[str, Path]]:
    """With `reset` each stream for itself; with `continual` one stream made of all."""
    if plan.protocol == "reset":
        for file in plan.streams:
            yield file.stem, file.resolve()
        return
    parts = [_labelled(file, edge) for file in plan.streams]
    joined = scratch / f"{CONTINUAL}.npz"
    np.savez(
        joined,
        x=np.concatenate([images for images, _ in parts]),
        y=np.concatenate([labels for _, labels in parts]),
    )
    yield CONTINUAL, joined


def _labelled(file: Path, edge: Bundle) -> tuple[Pixels, NDArray[np.int64]]:
    images, labels = read_stream(
        file, shape=edge.manifest.input.shape, classes=len(edge.manifest.classes)
    )
    if labels is None:
        raise SourceError(f"{file} has no labels 'y': its accuracy cannot be measured")
    return images, labels


def _run_baseline(plan: Plan, edge: Bundle, method: str, name: str, file: Path) -> Result:
    images, labels = _labelled(file, edge)
    baseline = BASELINES[method](edge)
    began = time.monotonic()
    answers = [
        baseline.answer(images[first : first + plan.batch])
        for first in range(0, len(images), plan.batch)
    ]
    spent_ms = 1e3 * (time.monotonic() - began)
    return Result(
        stream=name,
        method=method,
        seed=plan.seed,
        n=len(images),
        accuracy=_accuracy(np.concatenate(answers), labels),
        uploaded=0,
        bytes_up=0,
        bytes_down=0,
        versions_applied=0,
        versions_refused=0,
        lag_s_p50=None,
        edge_forward_ms=spent_ms / len(answers),
        edge_other_ms=0.0,
    )


def _run_method(plan: Plan, edge: Bundle, method: str, name: str, file: Path) -> Result:
    _, labels = _labelled(file, edge)
    with tempfile.TemporaryDirectory(prefix="driftwell-run-") as folder:
        outcome = asyncio.run(run_stream(plan, method, file, Path(folder)))
    summary = outcome.summary
    return Result(
        stream=name,
        method=method,
        seed=plan.seed,
        n=len(labels),
        accuracy=_accuracy(outcome.labels, labels),
        uploaded=summary.books.get("selected", 0),
        bytes_up=summary.bytes_up,
        bytes_down=summary.bytes_down,
        versions_applied=summary.counters.get("versions_applied", 0),
        versions_refused=summary.counters.get("versions_refused", 0),
        lag_s_p50=summary.lag_s_p50,
        edge_forward_ms=summary.forward_ms,
        edge_other_ms=summary.other_ms,
        digests=outcome.digests,
    )


def _accuracy(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    return round(100.0 * float(np.mean(answers == labels)), 3)
