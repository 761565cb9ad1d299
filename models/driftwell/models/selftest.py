"""A bundle's self-test: four images, and the logits that they must give on every machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError
from driftwell.models.manifest import BundleManifest
from driftwell.models.network import Network
from driftwell.models.weights import Weights, read_safetensors

SELFTEST: Final = "selftest.safetensors"
SELFTEST_IMAGES: Final = 4
SELFTEST_TOLERANCE: Final = 1e-3
"""Largest difference of a logit, relative to max(1, its size), between two machines."""
IMAGES: Final = "images"
LOGITS: Final = "logits"
FALLBACK_LOGITS: Final = "fallback_logits"
"""Of a modular bundle: what its fallback sub-model answers."""


def selftest_images(shape: tuple[int, int, int], *, draw: int = 0) -> NDArray[np.uint8]:
    """The images of a self-test, uint8 (4, H, W, C); the first draw does for most bundles."""
    # Fixed pseudo-random pixels: every weight takes part, and no real image is shipped.
    source = np.random.default_rng(20260101 + draw)
    return source.integers(0, 256, (SELFTEST_IMAGES, *shape), dtype=np.uint8)


def try_forward(
    network: Network, images: NDArray[np.uint8], classes: Sequence[str]
) -> NDArray[np.float32]:
    """Finite logits (N, classes) of the images.

    Raises:
        BundleError: if the model gives something else, or fails.
    """
    try:
        logits = network.logits(images)
    except (RuntimeError, ValueError, TypeError) as error:
        raise BundleError(f"the model fails on images of {images.shape[1:]}: {error}") from error
    if logits.shape != (len(images), len(classes)):
        raise BundleError(f"the model gives {logits.shape} for {len(classes)} classes")
    if not bool(np.isfinite(logits).all()):
        raise BundleError("the model gives NaN or infinity on the self-test images")
    return np.array(logits)


def read_selftest(folder: Path, manifest: BundleManifest) -> Weights:
    """Images and expected logits of a bundle.

    Raises:
        BundleError: if they are not those that the manifest names.
    """
    expected = read_safetensors(folder / SELFTEST)
    names = {IMAGES, LOGITS} | (set() if manifest.modular is None else {FALLBACK_LOGITS})
    if expected.keys() != names or digest_arrays(expected) != manifest.selftest_digest:
        raise BundleError(f"{folder / SELFTEST} was altered: its digest is not the manifest's")
    return expected


def run_selftest(
    folder: Path, manifest: BundleManifest, network: Network, *, logits: str = LOGITS
) -> None:
    """Ask the network, and compare.

    Args:
        folder: Of the bundle.
        manifest: Its manifest.
        network: The whole model, or the fallback sub-model.
        logits: Which of the file's arrays it must give.

    Raises:
        BundleError: if it answers otherwise, or the images are not of the manifest's shape.
    """
    expected = read_selftest(folder, manifest)
    shape = expected[IMAGES].shape[1:]
    if shape != manifest.input.shape:
        raise BundleError(
            f"{folder / SELFTEST} holds images of {shape}, the manifest's are "
            f"{manifest.input.shape}"
        )
    images, wanted = expected[IMAGES].astype(np.uint8), expected[logits].astype(np.float32)
    got = try_forward(network, images, manifest.classes)
    error = float(np.max(np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))))
    if not error <= SELFTEST_TOLERANCE:
        raise BundleError(
            f"{folder} fails its self-test: {logits} are off by {error:.2g}, allowed is "
            f"{SELFTEST_TOLERANCE:g}; the model's code or runtime is not the one it was made with"
        )
