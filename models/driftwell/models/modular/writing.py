"""Writes modular bundles: a whole one from a network, and what a device begins with."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError
from driftwell.models.bundle import Bundle, adaptable_shapes, create_bundle, open_bundle
from driftwell.models.bundle_folder import whole_or_not_at_all
from driftwell.models.manifest import MANIFEST, AdaptableArray, BundleManifest, encode_manifest
from driftwell.models.modular.bundle import ModularBundle, open_modular
from driftwell.models.modular.decomposition import decompose, derive
from driftwell.models.modular.folder import SOURCE, whole_weights, write_pieces
from driftwell.models.modular.module_layer import Place
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import piece_digest, read_module, read_trunk
from driftwell.models.modular.skeleton import build_skeleton, put_modules, put_trunk
from driftwell.models.modular.spec import ModularSpec, Structure
from driftwell.models.network import Network, Preparation
from driftwell.models.preprocessing import Preprocessing
from driftwell.models.selftest import (
    FALLBACK_LOGITS,
    IMAGES,
    LOGITS,
    SELFTEST,
    read_selftest,
    selftest_images,
    try_forward,
)
from driftwell.models.weights import Weights, load_weights

DRAWS: Final = 64
"""Sets of images tried for a self-test."""

Importance = Sequence[NDArray[np.floating]]
"""For each layer (modules,): how much the training data use them."""


def create_modular_bundle(
    out: Path, *, base: Bundle, network: ModularNetwork, importance: Importance | None = None
) -> Bundle:
    """Write a bundle of all modules to `out` and open it.

    Args:
        out: Folder to write, whole or not at all.
        base: Of the network that was cut, or an earlier modular bundle of it: gives the model's
            name, what goes in, the classes and what may adapt.
        network: Holding all its modules; it stays as it is.
        importance: Of its modules on the training data; decides between fallbacks alike in size.
            None: the fallback is the base's, if that is modular and cut alike.

    Raises:
        BundleError: if modules are missing, the network is not the base's, it fails or gives
            what is not finite, or `out` exists and is not a bundle.
    """
    pieces = {
        (layer, module): read_module(network, layer, module)
        for layer, place in enumerate(network.places)
        for module in place.held
    }
    if any(len(place.held) != place.total for place in network.places):
        raise BundleError("the network lacks modules: a bundle is made of the whole")
    trunk = read_trunk(network)
    spec = ModularSpec(
        structure=network.structure,
        pairs=network.pairs,
        modules=tuple(
            tuple(piece_digest(pieces[layer, module]) for module in place.held)
            for layer, place in enumerate(network.places)
        ),
        trunk=piece_digest(trunk),
        fallback=_fallback(base, network, importance),
    )
    shape = base.manifest.input.shape
    built = build_skeleton(base.manifest.model, spec, shape)
    put_trunk(built, trunk, where="the network")
    put_modules(built, lambda *address: pieces[address], where="the network")
    whole = Network(copy.deepcopy(built), base.manifest.preprocessing, scope=base.scope)
    fallback = Network(derive(built, spec.fallback), base.manifest.preprocessing, scope=base.scope)
    images = _decided_images(built, shape, base.manifest.preprocessing)
    selftest: dict[str, NDArray[np.generic]] = {
        IMAGES: images,
        LOGITS: try_forward(whole, images, base.manifest.classes),
        FALLBACK_LOGITS: try_forward(fallback, images, base.manifest.classes),
    }
    manifest = BundleManifest(
        model=base.manifest.model,
        input=base.manifest.input,
        classes=base.manifest.classes,
        preprocessing=base.manifest.preprocessing,
        preprocessing_digest=base.manifest.preprocessing_digest,
        adaptable=tuple(
            AdaptableArray(name=name, shape=size)
            for name, size in adaptable_shapes(built, base.scope)
        ),
        parameters=sum(parameter.numel() for parameter in built.parameters()),
        weights_digest=digest_arrays(whole_weights(built)),
        source_digest=digest_arrays(whole.state()),
        selftest_digest=digest_arrays(selftest),
        modular=spec,
    )
    with whole_or_not_at_all(out) as staging:
        named = {piece_digest(arrays): arrays for arrays in pieces.values()}
        write_pieces(staging, trunk, named)
        save_file(selftest, staging / SELFTEST)
        (staging / MANIFEST).write_bytes(encode_manifest(manifest))
        bundle = open_bundle(staging)
    return replace(bundle, path=out)


def cut_bundle(base: Bundle, out: Path, structure: Structure, *, seed: int = 0) -> Bundle:
    """Write a trained network's bundle once more, in modules that have not learned apart yet.

    Args:
        base: In one piece.
        out: Folder to write, whole or not at all.
        structure: How the network is cut.
        seed: Of what sets copies apart, and of the selector.

    Raises:
        BundleError: if the base is modular already, its network cannot be cut (`decompose`), or
            `out` exists and is not a bundle.
    """
    if base.manifest.modular is not None:
        raise BundleError(f"{base.path} is modular already")
    height, width, channels = base.manifest.input.shape
    example = torch.zeros(1, channels, height, width)
    network = decompose(base.module(), example, structure, seed=seed)
    return create_modular_bundle(out, base=base, network=network)


def rewrite_bundle(base: Bundle, out: Path, weights: Weights) -> Bundle:
    """Write a bundle once more with other weights, in modules if it is.

    Args:
        base: Gives all the rest.
        out: Folder to write, whole or not at all.
        weights: Of the whole network, by the names that the base's have.

    Raises:
        BundleError: if they do not fit, or `out` exists and is not a bundle.
    """
    if base.manifest.modular is not None:
        network = load_weights(base.module(), weights, where="the weights")
        if isinstance(network, ModularNetwork):
            return create_modular_bundle(out, base=base, network=network)
    return create_bundle(
        out,
        model=base.manifest.model,
        weights=weights,
        shape=base.manifest.input.shape,
        classes=base.manifest.classes,
        preprocessing=base.manifest.preprocessing,
        scope=base.scope,
    )


def write_device_copy(whole: Bundle, out: Path) -> ModularBundle:
    """Write what a device begins with, and open it: the fallback's modules and no others.

    Its manifest, and so its digest, are the whole bundle's. Where normalisation layers adapt,
    the whole's source state lies beside, so that a device can verify what a delta leads to.

    Args:
        whole: A modular bundle with all its modules.
        out: Folder to write, whole or not at all.

    Raises:
        BundleError: if the bundle is not modular, or `out` is its folder, or exists and is not
            a bundle.
    """
    bundle = open_modular(whole.path)
    if out.exists() and out.samefile(whole.path):
        raise BundleError(f"{out} is the whole bundle itself; choose another folder")
    named = {}
    for layer, modules in enumerate(bundle.spec.fallback):
        for module in modules:
            arrays = bundle.module_arrays(layer, module)
            if arrays is None:
                raise BundleError(f"{whole.path}: module {module} of layer {layer} is gone")
            named[bundle.spec.modules[layer][module]] = arrays
    with whole_or_not_at_all(out) as staging:
        write_pieces(staging, bundle.trunk, named)
        save_file(dict(read_selftest(whole.path, whole.manifest)), staging / SELFTEST)
        if whole.scope == "normalisation":
            save_file(dict(whole.source), staging / SOURCE)
        (staging / MANIFEST).write_bytes((whole.path / MANIFEST).read_bytes())
        device_copy = open_modular(staging)
    return replace(device_copy, path=out)


def fallback_modules(
    places: Sequence[Place], importance: Importance | None
) -> tuple[tuple[int, ...], ...]:
    """Of each layer the one module that is used most, the bypass only where there is no other.

    Modules of a layer are alike in size, and one that does nothing would make a model that
    runs anywhere and knows little.

    Args:
        places: Module layers.
        importance: For each layer (all its modules,); None: all are used alike.
    """
    chosen = []
    for layer, place in enumerate(places):
        use = np.zeros(place.total) if importance is None else importance[layer]
        ranked = [
            (width == 0, -float(use[module]), module)
            for width, module in zip(place.widths, place.held, strict=True)
        ]
        chosen.append((min(ranked)[2],))
    return tuple(chosen)


def _decided_images(
    network: ModularNetwork, shape: tuple[int, int, int], preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """Of some draws the images whose modules are chosen most clearly.

    A score that is above another by a rounding error is below it on the next machine, which then
    answers by other modules, and would fail the self-test through no fault of its own.
    """
    prepare = Preparation(preprocessing)
    draws = [selftest_images(shape, draw=draw) for draw in range(DRAWS)]
    with torch.inference_mode():
        return max(draws, key=lambda images: _margin(network, prepare(images)))


def _margin(network: ModularNetwork, inputs: Tensor) -> float:
    """The least by which the last module that is chosen is above the first that is not.

    Scores alike to the bit are so everywhere, and the first modules are chosen.
    """
    least = math.inf
    for scores in network.selector(inputs)[0]:
        ranked = scores.sort(dim=1, descending=True).values
        if network.active < ranked.shape[1]:
            gaps = ranked[:, network.active - 1] - ranked[:, network.active]
            gaps = gaps[gaps != 0]
            least = min(least, float(gaps.min())) if len(gaps) else least
    return least


def _fallback(
    base: Bundle, network: ModularNetwork, importance: Importance | None
) -> tuple[tuple[int, ...], ...]:
    before = base.manifest.modular
    cut = network.structure, network.pairs
    if importance is None and before is not None and (before.structure, before.pairs) == cut:
        return before.fallback
    return fallback_modules(network.places, importance)
