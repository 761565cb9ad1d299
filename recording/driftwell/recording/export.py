"""A recording's images and answers as files that other programs read.

Taken from whole batches of the stream where there are any, else from the samples. A batch
that was sent twice is taken once. Images are read twice from the file, never held all at once.
"""

import csv
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from driftwell.messages.codec import decode_on_topic
from driftwell.messages.errors import DriftwellError, RecordingError, WireError
from driftwell.messages.images import Pixels, unpack_images
from driftwell.messages.samples import SampleBatch, unpack_columns
from driftwell.messages.stream import LABEL
from driftwell.messages.topics import Kind
from driftwell.recording.form import MAX_MESSAGE
from driftwell.recording.reader import Recording, Selection
from driftwell.recording.streams import Sender, choose_sender, list_senders, read_streams
from driftwell.recording.survey import Progress

TABLE: Final = "samples.csv"
COLUMNS: Final = ("index", "prediction", "entropy")
MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels that a PNG can have."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    device: str
    source: str
    """`stream` or `samples`."""
    images: int
    has_labels: bool
    left_out: int
    """Messages that could not be decoded."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some images in order, with what was said of each."""

    images: Pixels
    """(N, H, W, C)."""
    columns: dict[str, NDArray[np.generic]]
    """(N,) each: index, prediction, entropy, and label where there is one."""


class Selected:
    """The batches of one device of a recording."""

    def __init__(self, recording: Recording, device: str | None = None) -> None:
        """Choose device and kind.

        Raises:
            RecordingError: if there is no such device, none is named where there are several,
                or there are no images.
        """
        self._recording = recording
        self._sender, self.kind = _choose(recording, device)
        self.left_out = 0

    @property
    def device(self) -> str:
        """Whose they are."""
        return self._sender.device

    def batches(self) -> Iterator[Batch]:
        """Yield the batches in the file's order.

        Raises:
            RecordingError: if the file is damaged.
        """
        self.left_out = 0
        if self.kind is Kind.SAMPLES:
            yield from self._samples()
            return
        for message in read_streams(self._recording, {str(self._sender)}, damaged=self._leave_out):
            yield Batch(message.images, message.columns)

    def _samples(self) -> Iterator[Batch]:
        seen: set[tuple[str, int]] = set()
        wanted = Selection(kinds={Kind.SAMPLES}, devices={str(self._sender)})
        for recorded in self._recording.messages(wanted):
            try:
                _, message = decode_on_topic(
                    recorded.topic, recorded.payload, limit_bytes=MAX_MESSAGE
                )
                if not isinstance(message, SampleBatch):
                    continue
                if (name := (message.session, message.seq)) in seen:
                    continue
                batch = Batch(unpack_images(message.images), unpack_columns(message))
            except WireError as error:
                self._leave_out(error)
                continue
            seen.add(name)
            yield batch

    def _leave_out(self, _error: DriftwellError) -> None:
        self.left_out += 1


def export_npz(
    recording: Recording,
    out: Path,
    *,
    device: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write x uint8 (N, H, W, C), y, index, prediction and entropy (N,) as .npz.

    `y` is there if every image has a label; `driftwell edge run --source npz:FILE` reads it.

    Raises:
        RecordingError: if there are no images of one size, or the file is there or cannot be
            written.
    """
    if out.exists() and not overwrite:
        raise RecordingError(
            f"{out} is there already; choose another name, or --force to replace it"
        )
    selected = Selected(recording, device)
    shape, columns = _columns(selected)
    count = len(columns["index"])
    part = out.with_name(f"{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            _write_images(archive, selected, (count, *shape), progress)
            for name, column in columns.items():
                with archive.open(f"{'y' if name == LABEL else name}.npy", "w") as file:
                    np.lib.format.write_array(file, column, allow_pickle=False)
        part.replace(out)
    except OSError as error:
        raise RecordingError(f"{out} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return Exported(selected.device, str(selected.kind), count, LABEL in columns, selected.left_out)


def export_images(
    recording: Recording, out: Path, *, device: str | None = None, progress: Progress | None = None
) -> Exported:
    """Write each image as PNG into a folder, and what was said of it into samples.csv.

    Raises:
        RecordingError: if there are no images of one size, a PNG cannot hold them, or the
            folder is not empty or cannot be written.
    """
    selected = Selected(recording, device)
    shape, columns = _columns(selected)
    if shape[2] not in MODES:
        raise RecordingError(f"a PNG cannot hold {shape[2]} channels; use --to npz")
    names = [name for name in (*COLUMNS, LABEL) if name in columns]
    count = len(columns["index"])
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise RecordingError(f"{out} is not empty; choose another folder")
        with (out / TABLE).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["file", *names])
            for number, image in enumerate(_images(selected)):
                name = f"{selected.device}-{number:08}.png"
                _write_png(out / name, image)
                table.writerow([name, *(columns[column][number].item() for column in names)])
                if progress is not None:
                    progress(number + 1, count)
    except OSError as error:
        raise RecordingError(f"{out} cannot be written: {error.strerror}") from error
    return Exported(selected.device, str(selected.kind), count, LABEL in columns, selected.left_out)


def _choose(recording: Recording, device: str | None) -> tuple[Sender, Kind]:
    streams, samples = (list_senders(recording, kind) for kind in (Kind.STREAM, Kind.SAMPLES))
    if not streams and not samples:
        raise RecordingError(f"{recording.path} holds no images: neither stream nor samples")
    every = {*streams, *samples}
    sender = choose_sender(recording.path, every, device, how="--device NAME")
    return sender, Kind.STREAM if sender in streams else Kind.SAMPLES


def _columns(
    selected: Selected,
) -> tuple[tuple[int, int, int], dict[str, NDArray[np.generic]]]:
    """Read all but the images: their shape (H, W, C), and the columns, (N,) each."""
    parts: dict[str, list[NDArray[np.generic]]] = {}
    shapes: set[tuple[int, int, int]] = set()
    batches = 0
    for batch in selected.batches():
        batches += 1
        _, height, width, channels = batch.images.shape
        shapes.add((height, width, channels))
        for name in (*COLUMNS, LABEL):
            if name in batch.columns:
                parts.setdefault(name, []).append(batch.columns[name].copy())
    if len(shapes) != 1:
        what = f"images of {len(shapes)} sizes" if shapes else "no image that can be read"
        raise RecordingError(f"device {selected.device!r} has {what}")
    if len(parts.get(LABEL, ())) != batches:
        parts.pop(LABEL, None)
    return shapes.pop(), {name: np.concatenate(part) for name, part in parts.items()}


def _write_images(
    archive: zipfile.ZipFile,
    selected: Selected,
    shape: tuple[int, int, int, int],
    progress: Progress | None,
) -> None:
    done = 0
    with archive.open("x.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        for batch in selected.batches():
            file.write(batch.images.tobytes())
            done += len(batch.images)
            if progress is not None:
                progress(done, shape[0])


def _images(selected: Selected) -> Iterator[Pixels]:
    for batch in selected.batches():
        yield from batch.images


def _write_png(file: Path, image: Pixels) -> None:
    channels = image.shape[2]
    pixels = image[..., 0] if channels == 1 else image
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
