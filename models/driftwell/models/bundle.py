"""Model bundles on disk: `manifest.json`, `weights.safetensors`, `selftest.safetensors`.

A modular bundle has pieces instead of weights (`modular.bundle`), and is opened here, too.

`create_bundle` writes one whole or not at all; `open_bundle` verifies every digest and
runs the self-test before it hands out a network. A bundle that fails is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError
from driftwell.models.bundle_folder import replaced, whole_or_not_at_all
from driftwell.models.factories import build_model
from driftwell.models.manifest import (
    MANIFEST,
    AdaptableArray,
    BundleManifest,
    InputSpec,
    bundle_digest,
    decode_manifest,
    encode_manifest,
)
from driftwell.models.modular.folder import read_whole, whole_weights
from driftwell.models.modular.skeleton import build_skeleton
from driftwell.models.network import Network
from driftwell.models.normalisation import Scope, adaptable_tensors, narrowest_scope
from driftwell.models.own_statistics import StatisticsSettings
from driftwell.models.preprocessing import Preprocessing
from driftwell.models.selftest import (
    IMAGES,
    LOGITS,
    SELFTEST,
    run_selftest,
    selftest_images,
    try_forward,
)
from driftwell.models.weights import WEIGHTS, Weights, load_weights, read_safetensors

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
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
            network.keep_stem(selftest_images(self.manifest.input.shape))
        return network

    def module(self) -> nn.Module:
        """A torch module of its own, with the bundle's weights."""
        return load_weights(_build(self.manifest), self.weights, where=str(self.path))


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
            or `out` exists and is not a bundle or holds anything else.
    """
    module = load_weights(build_model(model), weights, where="the weights file")
    network = Network(module, preprocessing, scope=scope)
    images = selftest_images(shape)
    logits = try_forward(network, images, classes)
    manifest = BundleManifest(
        model=model,
        input=InputSpec(shape=shape),
        classes=tuple(classes),
        preprocessing=preprocessing,
        preprocessing_digest=preprocessing.digest,
        adaptable=tuple(
            AdaptableArray(name=name, shape=shape)
            for name, shape in adaptable_shapes(module, scope)
        ),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        weights_digest=digest_arrays(weights),
        source_digest=digest_arrays(network.state()),
        selftest_digest=digest_arrays({"images": images, "logits": logits}),
    )
    with whole_or_not_at_all(out) as staging:
        save_file(dict(weights), staging / WEIGHTS)
        save_file({IMAGES: images, LOGITS: logits}, staging / SELFTEST)
        (staging / MANIFEST).write_bytes(encode_manifest(manifest))
        bundle = open_bundle(staging)
    return replace(bundle, path=out)


def open_bundle(path: Path) -> Bundle:
    """Read a bundle, verify its digests and run its self-test.

    Raises:
        BundleError: if a file is missing or altered, or the self-test gives other logits.
    """
    digest, manifest = read_manifest(path)
    if manifest.modular is None:
        weights: Weights = read_safetensors(path / WEIGHTS)
        if digest_arrays(weights) != manifest.weights_digest:
            raise BundleError(f"{path / WEIGHTS} was altered: its digest is not the manifest's")
        module = load_weights(build_model(manifest.model), weights, where=str(path / WEIGHTS))
    else:
        modular = read_whole(path, manifest.model, manifest.modular, manifest.input.shape)
        module, weights = modular, whole_weights(modular)
        if digest_arrays(weights) != manifest.weights_digest:
            raise BundleError(f"{path}: the modules are not those of the manifest's network")
    scope = require_scope(path, manifest, module)
    network = Network(module, manifest.preprocessing, scope=scope)
    source = network.state()
    if digest_arrays(source) != manifest.source_digest:
        raise BundleError(f"{path}: the source state is not the manifest's")
    run_selftest(path, manifest, network)
    return Bundle(path, digest, manifest, weights, source, scope)


def read_manifest(path: Path) -> tuple[str, BundleManifest]:
    """A bundle's digest and manifest.

    Raises:
        BundleError: if there is none, or it contradicts itself.
    """
    file = path / MANIFEST
    if not file.is_file():
        before = replaced(path)
        advice = (
            f"its writer was killed, the one before is whole: rename {before} to {path.name}"
            if before.is_dir()
            else "see: driftwell bundle create"
        )
        raise BundleError(f"no bundle at {path}: {MANIFEST} is missing ({advice})")
    content = file.read_bytes()
    return bundle_digest(content), decode_manifest(content, where=str(file))


def require_scope(
    path: Path,
    manifest: BundleManifest,
    module: nn.Module,
    *,
    widened: Callable[[str, Shape], Shape] = lambda _, shape: shape,
) -> Scope:
    """Which arrays the manifest lets adapt, once its list is that of the model.

    Args:
        path: Of the bundle, for the error.
        manifest: Its manifest.
        module: The model, or a sub-model.
        widened: From an array's name and its shape in a sub-model to that in the whole.

    Raises:
        BundleError: if the list is another model's.
    """
    listed = [(entry.name, entry.shape) for entry in manifest.adaptable]
    scope = narrowest_scope(module, [name for name, _ in listed])
    shapes = adaptable_shapes(module, scope)
    if [(name, widened(name, shape)) for name, shape in shapes] != listed:
        raise BundleError(f"{path}: the model's adaptable arrays are not those of the manifest")
    return scope


def adaptable_shapes(module: nn.Module, scope: Scope) -> tuple[tuple[str, Shape], ...]:
    """Name and shape of each array that may adapt."""
    tensors = adaptable_tensors(module, scope)
    return tuple((name, tuple(tensor.shape)) for name, tensor in tensors.items())


def _build(manifest: BundleManifest) -> nn.Module:
    """The manifest's network, untrained."""
    if manifest.modular is None:
        return build_model(manifest.model)
    return build_skeleton(manifest.model, manifest.modular, manifest.input.shape)
