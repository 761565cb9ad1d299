"""Reads anchors: labelled images of the source domain, for hardening and for the gate."""

import io
import itertools
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from driftwell.edge.sources import read_stream
from driftwell.messages.errors import SourceError
from driftwell.messages.images import Pixels

JPEG_KEYS: Final = {"jpeg", "offsets", "y"}
"""All files end to end, where each begins (and the last ends), the labels."""


def read_anchors(
    file: Path, *, shape: tuple[int, int, int], classes: int
) -> tuple[Pixels, NDArray[np.int64]]:
    """Images uint8 (N, H, W, C) and labels (N,) of an .npz: `x` and `y`, or JPEG files and `y`.

    Raises:
        SourceError: if the file is neither, or its images are not of the model's shape.
    """
    try:
        with np.load(file, allow_pickle=False) as content:
            is_jpeg = content.files and set(content.files) >= JPEG_KEYS
            parts = [content[key] for key in sorted(JPEG_KEYS)] if is_jpeg else []
    except (OSError, ValueError) as error:
        raise SourceError(f"{file} cannot be read as .npz: {error}") from error
    if parts:
        jpeg, offsets, labels = parts
        images = _decoded(file, jpeg.tobytes(), offsets.astype(np.int64), shape)
    else:
        images, read = read_stream(file, shape=shape, classes=classes)
        if read is None:
            raise SourceError(f"{file} has no labels 'y': anchors need them")
        labels = read
    if labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= classes:
        raise SourceError(f"{file}: labels 'y' are not one class below {classes} an image")
    return images, labels.astype(np.int64)


def _decoded(
    file: Path, content: bytes, offsets: NDArray[np.int64], shape: tuple[int, int, int]
) -> Pixels:
    if offsets.ndim != 1 or len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(content):  # noqa: PLR2004
        raise SourceError(f"{file}: 'offsets' do not cut 'jpeg' into files")
    images = np.empty((len(offsets) - 1, *shape), np.uint8)
    for number, (start, stop) in enumerate(itertools.pairwise(offsets)):
        try:
            with Image.open(io.BytesIO(content[start:stop]), formats=["JPEG"]) as image:
                if image.size != (shape[1], shape[0]):
                    raise SourceError(f"{file}: image {number} is {image.size}, not {shape}")
                pixels = np.asarray(image.convert("RGB" if shape[2] == 3 else "L"))  # noqa: PLR2004
        except (OSError, ValueError) as error:
            raise SourceError(f"{file}: image {number} is no JPEG file: {error}") from error
        images[number] = pixels.reshape(shape)
    return images
