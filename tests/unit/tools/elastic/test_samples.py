"""Data of the elastic bench."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from driftwell.messages.errors import SettingsError, SourceError
from driftwell.tools.elastic.problems import PROBLEMS, read_samples
from driftwell.tools.elastic.samples import read_cifar_jpeg, read_digits


def test_digits_are_bytes() -> None:
    """1797 images of 8 x 8 x 1 that use all of 0..255."""
    digits = read_digits()

    assert digits.images.shape == (1797, 8, 8, 1)
    assert digits.images.dtype == np.uint8
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    assert sorted(set(digits.labels.tolist())) == list(range(10))


def write_cifar(path: Path) -> Path:
    labels = np.repeat(np.arange(10), 6)
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    np.savez(path, x=images, y=labels.astype(np.uint8))
    return path


def test_a_limit_keeps_all_classes(tmp_path: Path) -> None:
    """The file is sorted by class; 30 images are 3 of each."""
    samples = read_cifar_jpeg(write_cifar(tmp_path / "c.npz"), limit=30)

    assert np.bincount(samples.labels).tolist() == [3] * 10


@pytest.mark.parametrize("limit", [5, 100])
def test_a_limit_that_cannot_be_is_said(limit: int, tmp_path: Path) -> None:
    """Fewer than one of a class, or more than there are."""
    with pytest.raises(SourceError, match="images of every class"):
        read_cifar_jpeg(write_cifar(tmp_path / "c.npz"), limit=limit)


def test_a_path_is_for_problems_with_a_file(tmp_path: Path) -> None:
    """Cifar needs one, the digits have none."""
    with pytest.raises(SettingsError, match="path"):
        read_samples(PROBLEMS["cifar"], None, None)
    with pytest.raises(SettingsError, match="path"):
        read_samples(PROBLEMS["digits"], tmp_path, None)


def test_jpeg_files_end_to_end_are_read(tmp_path: Path) -> None:
    """As CIFAR-10's training images come: `jpeg`, `offsets` and `y`."""
    files = []
    for label in range(10):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (20 * label, 0, 0)).save(file, "JPEG")
        files.append(file.getvalue())
    path = tmp_path / "j.npz"
    np.savez(
        path,
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        y=np.arange(10, dtype=np.uint8),
    )

    samples = read_cifar_jpeg(path)

    assert samples.labels.tolist() == list(range(10))
    assert samples.images.shape == (10, 32, 32, 3)
    assert samples.images[9].mean(axis=(0, 1)) == pytest.approx([180, 0, 0], abs=3)
