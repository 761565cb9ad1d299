"""The images versions are compared on: `npz:FILE`, `mcap:FILE` or `mcap:FILE#DEVICE`."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.sources import read_stream
from driftwell.messages.errors import SettingsError
from driftwell.messages.images import Pixels
from driftwell.models.manifest import BundleManifest
from driftwell.recording.batches import UNKNOWN
from driftwell.recording.reader import Recording
from driftwell.recording.streams import (
    StreamMessage,
    choose_sender,
    list_senders,
    read_streams,
)


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
    with Recording(Path(file)) as recording:
        wanted = _wanted(recording, device)
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


def _wanted(recording: Recording, device: str) -> Collection[str] | None:
    """The one device that is named; None, all, if none is."""
    senders = list_senders(recording)
    if not device:
        return None
    if not any(device in {one.device, str(one)} for one in senders):
        raise SettingsError(_nothing(str(recording.path), device, has_images=False))
    how = f"{recording.path}#GROUP/DEVICE"
    return {str(choose_sender(recording.path, senders, device, how=how))}


def _labels(
    recording: Recording, wanted: Collection[str] | None, cohort: str | None
) -> tuple[str | None, NDArray[np.int64]]:
    """Which cohort's streams to take (None: all), and a label or UNKNOWN for each image."""
    parts = [(one.batch.cohort, one.labels) for one in read_streams(recording, wanted)]
    found = cohort if any(name == cohort for name, _ in parts) else None
    taken = [labels for name, labels in parts if found in {None, name}]
    return found, np.concatenate([np.zeros(0, np.int64), *taken])


def _images(
    recording: Recording,
    wanted: Collection[str] | None,
    cohort: str | None,
    chosen: NDArray[np.int64],
    manifest: BundleManifest,
) -> Pixels:
    """The images with the chosen numbers; the others are not unpacked."""
    images: list[Pixels] = []
    first = 0
    for message in _of(cohort, read_streams(recording, wanted)):
        inside = chosen[(chosen >= first) & (chosen < first + message.count)] - first
        first += message.count
        shape = message.batch.images.shape[1:]
        if shape != manifest.input.shape:
            raise SettingsError(
                f"{recording.path}: images are {shape}, the model takes "
                f"{manifest.input.shape}; use a recording of this model"
            )
        if len(inside):
            images.append(message.images[inside])
    return np.concatenate(images)


def _of(cohort: str | None, messages: Iterator[StreamMessage]) -> Iterator[StreamMessage]:
    return (one for one in messages if cohort in {None, one.batch.cohort})


def _nothing(file: str, device: str, *, has_images: bool) -> str:
    if has_images:
        return f"{file} has no labels, and the test needs them; use agreement>= or command:"
    whose = f" of {device}" if device else ""
    return f"{file} holds no raw stream{whose}; a device records it with: edge run --record FILE"
