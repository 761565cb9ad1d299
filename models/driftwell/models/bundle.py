"""Model bundles on disk: `manifest.json`, `weights.safetensors`, `selftest.safetensors`.

`create_bundle` writes one whole or not at all; `open_bundle` verifies every digest and
runs the self-test before it hands out a network. A bundle that fails is refused.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import nn

from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError
from driftwell.models.factories import build_model
from driftwell.models.manifest import (
    AdaptableArray,
    BundleManifest,
    InputSpec,
    bundle_digest,
    decode_manifest,
    encode_manifest,
)
from driftwell.models.network import Network
from driftwell.models.normalisation import Scope, adaptable_tensors, narrowest_scope
from driftwell.models.own_statistics import StatisticsSettings
from driftwell.models.preprocessing import Preprocessing

MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "weights.safetensors"
SELFTEST: Final = "selftest.safetensors"
SELFTEST_IMAGES: Final = 4
SELFTEST_TOLERANCE: Final = 1e-3
"""Largest difference of a logit, relative to max(1, its size), between two machines."""

_STEP_COUNTER: Final = "num_batches_tracked"
"""PyTorch counts training steps under this name; published weights may or may not have it."""

Weights = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: verified, self-tested, its weights in memory once."""

    path: Path
    digest: str
    manifest: BundleManifest
    weights: Weights
    source: Mapping[str, NDArray[np.float32]]
    """The adaptable state the weights hold: version 0, one command away."""
    scope: Scope = "normalisation"
    """Which arrays may adapt."""

    def network(
        self, *, own_statistics: StatisticsSettings | None = None, bfloat16: bool = False
    ) -> Network:
        """A network of its own, in the source state.

        Args:
            own_statistics: How BatchNorm follows the network's own stream; None: it does not,
                and normalises by the adaptable state's running statistics.
            bfloat16: Whether it multiplies in bfloat16.
        """
        network = Network(
            self.module(),
            self.manifest.preprocessing,
            scope=self.scope,
            own_statistics=own_statistics,
            bfloat16=bfloat16,
        )
        if own_statistics is not None and self.scope == "all":
            network.keep_stem(_selftest_images(self.manifest.input.shape))
        return network

    def module(self) -> nn.Module:
        """A torch module of its own, with the bundle's weights."""
        return load_weights(build_model(self.manifest.model), self.weights, where=str(self.path))


def create_bundle(
    out: Path,
    *,
    model: str,
    weights: Weights,
    shape: tuple[int, int, int],
    classes: Sequence[str],
    preprocessing: Preprocessing,
    scope: Scope = "normalisation",
) -> Bundle:
    """Write a bundle to `out` and open it.

    Raises:
        BundleError: if the weights do not fit the model, the model does not map `shape` to
            one logit a class, its arrays may not adapt (`normalisation.adaptable_tensors`),
            or `out` exists and is not a bundle.
    """
    module = load_weights(build_model(model), weights, where="the weights file")
    network = Network(module, preprocessing, scope=scope)
    images = _selftest_images(shape)
    logits = _try_forward(network, images, classes)
    manifest = BundleManifest(
        model=model,
        input=InputSpec(shape=shape),
        classes=tuple(classes),
        preprocessing=preprocessing,
        preprocessing_digest=preprocessing.digest,
        adaptable=tuple(
            AdaptableArray(name=name, shape=shape) for name, shape in _adaptable(module, scope)
        ),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        weights_digest=digest_arrays(weights),
        source_digest=digest_arrays(network.state()),
        selftest_digest=digest_arrays({"images": images, "logits": logits}),
    )
    _write(out, manifest, weights, {"images": images, "logits": logits})
    return open_bundle(out)


def open_bundle(path: Path) -> Bundle:
    """Read a bundle, verify its digests and run its self-test.

    Raises:
        BundleError: if a file is missing or altered, or the self-test gives other logits.
    """
    manifest_file = path / MANIFEST
    if not manifest_file.is_file():
        raise BundleError(
            f"no bundle at {path}: {MANIFEST} is missing (see: driftwell bundle create)"
        )
    content = manifest_file.read_bytes()
    manifest = decode_manifest(content, where=str(manifest_file))
    weights = read_safetensors(path / WEIGHTS)
    if digest_arrays(weights) != manifest.weights_digest:
        raise BundleError(f"{path / WEIGHTS} was altered: its digest is not the manifest's")
    module = load_weights(build_model(manifest.model), weights, where=str(path / WEIGHTS))
    scope = _scope(path, manifest, module)
    network = Network(module, manifest.preprocessing, scope=scope)
    source = network.state()
    if digest_arrays(source) != manifest.source_digest:
        raise BundleError(f"{path}: the source state is not the manifest's")
    _selftest(path, manifest, network)
    return Bundle(path, bundle_digest(content), manifest, weights, source, scope)


def load_weights(module: nn.Module, weights: Weights, *, where: str) -> nn.Module:
    """Put weights into a module by name.

    Raises:
        BundleError: naming what is missing, unexpected or of another shape.
    """
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    tensors = {n: t for n, t in tensors.items() if not n.endswith(_STEP_COUNTER)}
    expected = {n: t for n, t in module.state_dict().items() if not n.endswith(_STEP_COUNTER)}
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    shared = sorted(expected.keys() & tensors.keys())
    reshaped = [name for name in shared if expected[name].shape != tensors[name].shape]
    for what, names in (("lack", missing), ("have unexpected", unexpected), ("reshape", reshaped)):
        if names:
            raise BundleError(f"{where} {what} {len(names)} arrays, the first is {names[0]!r}")
    module.load_state_dict({name: tensors[name] for name in expected}, strict=False)
    return module


def read_safetensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read all arrays of a safetensors file.

    Raises:
        BundleError: if it is missing or not such a file.
    """
    if not path.is_file():
        raise BundleError(f"{path} does not exist")
    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError, OSError) as error:
        raise BundleError(f"{path} is not a safetensors file: {error}") from error


def _adaptable(module: nn.Module, scope: Scope) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Name and shape of each array that may adapt."""
    tensors = adaptable_tensors(module, scope)
    return tuple((name, tuple(tensor.shape)) for name, tensor in tensors.items())


def _scope(path: Path, manifest: BundleManifest, module: nn.Module) -> Scope:
    """Which arrays the manifest lets adapt, once its list is that of the model."""
    listed = tuple((entry.name, entry.shape) for entry in manifest.adaptable)
    scope = narrowest_scope(module, [name for name, _ in listed])
    if _adaptable(module, scope) != listed:
        raise BundleError(f"{path}: the model's adaptable arrays are not those of the manifest")
    return scope


def _selftest_images(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    # Fixed pseudo-random pixels: every weight takes part, and no real image is shipped.
    source = np.random.default_rng(20260101)
    return source.integers(0, 256, (SELFTEST_IMAGES, *shape), dtype=np.uint8)


def _try_forward(
    network: Network, images: NDArray[np.uint8], classes: Sequence[str]
) -> NDArray[np.float32]:
    try:
        logits = network.logits(images)
    except (RuntimeError, ValueError, TypeError) as error:
        raise BundleError(f"the model fails on images of {images.shape[1:]}: {error}") from error
    if logits.shape != (len(images), len(classes)):
        raise BundleError(f"the model gives {logits.shape} for {len(classes)} classes")
    if not bool(np.isfinite(logits).all()):
        raise BundleError("the model gives NaN or infinity on the self-test images")
    return np.array(logits)


def _selftest(path: Path, manifest: BundleManifest, network: Network) -> None:
    expected = read_safetensors(path / SELFTEST)
    if expected.keys() != {"images", "logits"} or (
        digest_arrays(expected) != manifest.selftest_digest
    ):
        raise BundleError(f"{path / SELFTEST} was altered: its digest is not the manifest's")
    images, wanted = expected["images"].astype(np.uint8), expected["logits"].astype(np.float32)
    got = _try_forward(network, images, manifest.classes)
    error = float(np.max(np.abs(got - wanted) / np.maximum(1.0, np.abs(wanted))))
    if not error <= SELFTEST_TOLERANCE:
        raise BundleError(
            f"{path} fails its self-test: logits are off by {error:.2g}, allowed is "
            f"{SELFTEST_TOLERANCE:g}; the model's code or runtime is not the one it was made with"
        )


def _write(out: Path, manifest: BundleManifest, weights: Weights, selftest: Weights) -> None:
    if out.exists() and not (out / MANIFEST).is_file() and any(out.iterdir()):
        raise BundleError(f"{out} exists and is not a bundle; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        save_file(dict(weights), staging / WEIGHTS)
        save_file(dict(selftest), staging / SELFTEST)
        (staging / MANIFEST).write_bytes(encode_manifest(manifest))
        staging.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        staging.replace(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
