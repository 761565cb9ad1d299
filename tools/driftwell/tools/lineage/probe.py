"""The images versions are compared on: `npz:FILE`, `mcap:FILE` or `mcap:FILE#DEVICE`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.sources import read_stream
from driftwell.messages.codec import decode
from driftwell.messages.errors import RecordingError, SettingsError, WireError
from driftwell.messages.images import Pixels, unpack_images
from driftwell.messages.stream import LABEL, StreamBatch, unpack_stream_columns
from driftwell.messages.topics import Kind
from driftwell.models.manifest import BundleManifest
from driftwell.recording.form import MAX_MESSAGE
from driftwell.recording.reader import Recording, Selection

UNKNOWN: Final = -1
"""Stands where an image has no label."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Images, and what they show where that is known."""

    images: Pixels
    """(N, H, W, C), N >= 1."""
    labels: NDArray[np.int64] | None
    """(N,): classes, UNKNOWN where there is none; None if no image has one."""


def read_probe(
    spec: str,
    manifest: BundleManifest,
    *,
    limit: int,
    cohort: str | None = None,
    labelled: bool = False,
) -> Probe:
    """Read at most `limit` images, evenly spread over the file.

    Args:
        spec: `npz:FILE`, `mcap:FILE` or `mcap:FILE#DEVICE`.
        manifest: Of the bundle that will answer.
        limit: Images.
        cohort: Of a recording, this cohort's streams; all if it has none of them.
        labelled: Only images with a label.

    Raises:
        SettingsError: if it is no such specification, or nothing fitting is in the file.
        SourceError, RecordingError: if the file cannot be read.
    """
    kind, _, place = spec.partition(":")
    if kind == "npz" and place:
        images, labels = read_stream(
            Path(place), shape=manifest.input.shape, classes=len(manifest.classes)
        )
        if labelled and labels is None:
            raise SettingsError(f"{place} has no labels ('y'), and the test needs them")
        chosen = spread(np.arange(len(images)), limit)
        return Probe(images[chosen], None if labels is None else labels[chosen])
    if kind == "mcap" and place:
        return _read_recording(place, manifest, limit=limit, cohort=cohort, labelled=labelled)
    raise SettingsError(f"probe {spec!r} is not understood; use npz:FILE or mcap:FILE")


def spread(numbers: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """At most `limit` of the numbers, evenly spread, the first and the last among them."""
    if len(numbers) <= limit:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, limit).round().astype(np.int64)]


def _read_recording(
    place: str, manifest: BundleManifest, *, limit: int, cohort: str | None, labelled: bool
) -> Probe:
    file, _, device = place.partition("#")
    wanted = Selection(kinds={Kind.STREAM}, devices={device} if device else None)
    with _opened(Path(file)) as recording:
        found, every = _labels(recording, wanted, cohort)
        usable = np.flatnonzero(every != UNKNOWN) if labelled else np.arange(len(every))
        if len(usable) == 0:
            raise SettingsError(_nothing(file, device, has_images=len(every) > 0))
        chosen = spread(usable, limit)
        images = _images(recording, wanted, found, chosen, manifest)
    labels = every[chosen]
    if int(labels.max()) >= len(manifest.classes):
        raise SettingsError(
            f"{file}: labels run up to {labels.max()}, the model has {len(manifest.classes)} "
            "classes; use a recording of this model"
        )
    return Probe(images, labels if bool((labels != UNKNOWN).any()) else None)


def _labels(
    recording: Recording, wanted: Selection, cohort: str | None
) -> tuple[str | None, NDArray[np.int64]]:
    """Which cohort's streams to take (None: all), and a label or UNKNOWN for each image."""
    parts = [(batch.cohort, _labels_of(batch)) for batch in _batches(recording, wanted)]
    found = cohort if any(name == cohort for name, _ in parts) else None
    taken = [labels for name, labels in parts if found in {None, name}]
    return found, np.concatenate([np.zeros(0, np.int64), *taken])


def _labels_of(batch: StreamBatch) -> NDArray[np.int64]:
    labels = unpack_stream_columns(batch).get(LABEL)
    return np.full(batch.count, UNKNOWN) if labels is None else labels.astype(np.int64)


def _images(
    recording: Recording,
    wanted: Selection,
    cohort: str | None,
    chosen: NDArray[np.int64],
    manifest: BundleManifest,
) -> Pixels:
    """The images with the chosen numbers; the others are not unpacked."""
    images: list[Pixels] = []
    first = 0
    for batch in _batches(recording, wanted):
        if cohort not in {None, batch.cohort}:
            continue
        inside = chosen[(chosen >= first) & (chosen < first + batch.count)] - first
        first += batch.count
        if batch.images.shape[1:] != manifest.input.shape:
            raise SettingsError(
                f"{recording.path}: images are {batch.images.shape[1:]}, the model takes "
                f"{manifest.input.shape}; use a recording of this model"
            )
        if len(inside):
            images.append(unpack_images(batch.images)[inside])
    return np.concatenate(images)


def _batches(recording: Recording, wanted: Selection) -> Iterator[StreamBatch]:
    for message in recording.messages(wanted):
        batch = decode(message.payload, limit_bytes=MAX_MESSAGE)
        if isinstance(batch, StreamBatch):
            yield batch


@contextmanager
def _opened(path: Path) -> Iterator[Recording]:
    try:
        with Recording(path) as recording:
            yield recording
    except WireError as error:
        raise RecordingError(f"{path}: a message of the raw stream is damaged: {error}") from error


def _nothing(file: str, device: str, *, has_images: bool) -> str:
    if has_images:
        return f"{file} has no labels, and the test needs them; use agreement>= or command:"
    whose = f" of {device}" if device else ""
    return f"{file} holds no raw stream{whose}; a device records it with: edge run --record FILE"
