"""Modular bundles: whole ones are bundles like any other, and what was altered does not open."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests import tiny, tiny_modular

from driftwell.messages.delta import apply_delta, encode_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.models.manifest import MANIFEST, decode_manifest, encode_manifest
from driftwell.models.modular.bundle import open_modular
from driftwell.models.modular.decomposition import derive
from driftwell.models.modular.folder import MODULES, TRUNK
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import EMPTY, piece_digest, read_module
from driftwell.models.modular.spec import ModularSpec, Structure
from driftwell.models.modular.writing import create_modular_bundle, rewrite_bundle
from driftwell.models.network import Preparation
from driftwell.models.normalisation import Scope
from driftwell.models.selftest import SELFTEST, selftest_images
from driftwell.models.statistics import StatisticsSettings

IMAGES = tiny.make_images(6)
BYPASS = 5
SCOPES: tuple[Scope, ...] = ("normalisation", "all")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny_modular.make_modular(tmp_path)


def spec_of(bundle: Bundle) -> ModularSpec:
    spec = bundle.manifest.modular
    assert spec is not None
    return spec


def edit(bundle: Bundle, **changes: object) -> None:
    """Write another manifest."""
    manifest = msgspec.structs.replace(bundle.manifest, **changes)
    (bundle.path / MANIFEST).write_bytes(encode_manifest(manifest))


def edit_spec(bundle: Bundle, **changes: object) -> None:
    edit(bundle, modular=msgspec.structs.replace(spec_of(bundle), **changes))


def module_file(bundle: Bundle, layer: int = 0, module: int = 0) -> Path:
    return bundle.path / MODULES / f"{spec_of(bundle).modules[layer][module]}.safetensors"


@pytest.mark.parametrize("scope", SCOPES)
def test_it_answers_as_the_network_it_was_made_of(tmp_path: Path, scope: Scope) -> None:
    """The same bundle again, the same logits, and the whole network's arrays may adapt."""
    base = tiny_modular.make_blocks(tmp_path, scope)
    network = tiny_modular.cut_blocks(base)
    bundle = create_modular_bundle(tmp_path / "modular", base=base, network=network)
    again = open_bundle(bundle.path)
    with torch.inference_mode():
        pixels = torch.from_numpy(IMAGES).float().permute(0, 3, 1, 2) / 255
        expected = network((pixels - 0.5) / 0.25).numpy()

    assert again.digest == bundle.digest != base.digest
    assert again.manifest.parameters == sum(p.numel() for p in network.parameters())
    assert (again.scope, again.manifest.classes) == (scope, base.manifest.classes)
    np.testing.assert_allclose(again.network().logits(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert ("trunk.1.conv1.weight" in again.source) == (scope == "all")


def test_a_network_of_it_follows_its_stream_and_takes_versions(bundle: Bundle) -> None:
    """Own statistics, deltas and their digests are as with any bundle."""
    network = bundle.network(own_statistics=StatisticsSettings())
    before = network.logits(IMAGES)
    moved = tiny.moved(bundle.source)
    version = apply_delta(bundle.source, encode_delta(bundle.source, moved))
    network.install(version)

    assert digest_arrays(network.state()) == digest_arrays(version)
    assert not np.array_equal(network.logits(IMAGES), before)
    assert network.signature() is not None


def test_each_piece_is_in_a_file_of_its_name(bundle: Bundle) -> None:
    """Equal modules are one file, and the bypass is none."""
    spec = spec_of(bundle)
    module = bundle.module()
    assert isinstance(module, ModularNetwork)
    files = {file.stem for file in (bundle.path / MODULES).iterdir()}

    assert [layer[BYPASS] for layer in spec.modules] == [EMPTY, EMPTY]
    assert files == {digest for layer in spec.modules for digest in layer} - {EMPTY}
    assert spec.modules[1][2] == piece_digest(read_module(module, 1, 2))
    assert spec.trunk == piece_digest(load_file(bundle.path / TRUNK))


def test_the_fallback_is_what_is_used_most(tmp_path: Path, bundle: Bundle) -> None:
    """One module a layer, the most important one, and not the bypass."""
    wide = tiny.make_bundle(tmp_path, "foundation")
    structure = Structure(modules=6, slices=4, active=2)
    network = tiny_modular.cut(wide, structure)
    importance = [np.array([0.1, 0.1, 0.3, 0.1, 0.2, 0.2], np.float32)]
    chosen = [
        spec_of(create_modular_bundle(tmp_path / "out", base=wide, network=network, **given))
        for given in ({}, {"importance": importance})
    ]

    assert spec_of(bundle).fallback == ((0,), (0,))
    assert [spec.fallback for spec in chosen] == [((0,),), ((2,),)]


def test_the_self_test_asks_what_is_decided(bundle: Bundle) -> None:
    """The scores of its images are apart, so another machine's rounding chooses as this one's."""
    module = bundle.module()
    assert isinstance(module, ModularNetwork)
    prepare = Preparation(bundle.manifest.preprocessing)
    gaps = []
    for images in (load_file(bundle.path / SELFTEST)["images"], selftest_images(tiny.SHAPE)):
        with torch.inference_mode():
            scores, _ = module.selector(prepare(images.astype(np.uint8)))
        ranked = [layer.sort(dim=1, descending=True).values for layer in scores]
        gaps.append(min(float((layer[:, 1] - layer[:, 2]).min()) for layer in ranked))

    assert gaps[0] > max(0.01, gaps[1])


def test_with_other_weights_it_stays_what_it_is(tmp_path: Path, bundle: Bundle) -> None:
    """Modules stay modules, the fallback stays, and what moved is what was given."""
    spec = msgspec.structs.replace(spec_of(bundle), fallback=((2,), (1, 3)))
    chosen = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, modular=spec))
    moved = {**bundle.weights, **tiny.moved(bundle.source)}
    made = rewrite_bundle(chosen, tmp_path / "out", moved)
    flat = tiny_modular.make_blocks(tmp_path, "all")
    again = rewrite_bundle(flat, tmp_path / "flat", flat.weights)

    assert digest_arrays(made.source) == digest_arrays(tiny.moved(bundle.source))
    assert digest_arrays(made.weights) == digest_arrays(moved)
    assert spec_of(made).fallback == ((2,), (1, 3))
    assert again.digest == flat.digest
    with pytest.raises(BundleError, match="the weights lack"):
        rewrite_bundle(bundle, tmp_path / "wrong", bundle.source)


def test_a_fallback_of_other_layers_is_not_kept(tmp_path: Path, bundle: Bundle) -> None:
    """Cut by the same structure elsewhere, it says nothing of these layers: it is chosen anew."""
    spec = spec_of(bundle)
    other = msgspec.structs.replace(
        spec, pairs=spec.pairs[1:], modules=spec.modules[1:], fallback=((2,),)
    )
    base = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, modular=other))
    network = bundle.module()
    assert isinstance(network, ModularNetwork)

    made = create_modular_bundle(tmp_path / "out", base=base, network=network)

    assert spec_of(made).fallback == ((0,), (0,))


def test_other_manifests_say_nothing_of_modules(tmp_path: Path) -> None:
    """So the digest of a bundle from before there were modules is what it was."""
    made = tiny.make_bundle(tmp_path, "edge")
    content = encode_manifest(made.manifest)

    assert b"modular" not in content
    assert content == msgspec.json.format(content, indent=2) + b"\n"
    assert decode_manifest(content, where="x").modular is None


def alter(file: Path) -> None:
    arrays = load_file(file)
    name = min(arrays)
    save_file(arrays | {name: arrays[name] + np.float32(1)}, file)


def swap_modules(bundle: Bundle) -> None:
    first, second, *rest = spec_of(bundle).modules[0]
    edit_spec(bundle, modules=((second, first, *rest), spec_of(bundle).modules[1]))


def misname(bundle: Bundle) -> None:
    module_file(bundle).rename(bundle.path / MODULES / "first.safetensors")


def not_a_module(bundle: Bundle) -> None:
    """A piece that is what it is called, and fits no module of this network."""
    arrays = {"first.weight": np.zeros((1, 1), np.float32)}
    digest = piece_digest(arrays)
    save_file(arrays, bundle.path / MODULES / f"{digest}.safetensors")
    module_file(bundle).unlink()
    first, second = spec_of(bundle).modules
    edit_spec(bundle, modules=((digest, *first[1:]), second))


def in_double(bundle: Bundle) -> None:
    arrays = {
        name: array.astype(np.float64) for name, array in load_file(bundle.path / TRUNK).items()
    }
    save_file(arrays, bundle.path / TRUNK)


def strange_pair(bundle: Bundle, **changes: str | None) -> None:
    first, second = spec_of(bundle).pairs
    edit_spec(bundle, pairs=(msgspec.structs.replace(first, **changes), second))


def wrong_layers(bundle: Bundle) -> None:
    text = (bundle.path / MANIFEST).read_text()
    (bundle.path / MANIFEST).write_text(text.replace('"slices": 4', '"slices": 6'))


def strange_fallback(bundle: Bundle) -> None:
    spec = msgspec.to_builtins(bundle.manifest)
    spec["modular"]["fallback"] = [[0], [6]]
    (bundle.path / MANIFEST).write_bytes(msgspec.json.encode(spec))


def other_selftest(bundle: Bundle) -> None:
    file = bundle.path / SELFTEST
    arrays = {name: array for name, array in load_file(file).items() if name != "fallback_logits"}
    save_file(arrays, file)
    edit(bundle, selftest_digest=digest_arrays(arrays))


DAMAGES: dict[str, Callable[[Bundle], object]] = {
    r"trunk.safetensors was altered": lambda b: alter(b.path / TRUNK),
    r"trunk.safetensors does not exist": lambda b: (b.path / TRUNK).unlink(),
    r"float64, must be float32": in_double,
    r"modules/\w+.safetensors was altered": lambda b: alter(module_file(b)),
    r"not whole: 1 of 10 module files": lambda b: module_file(b).unlink(),
    r"not whole: 10 of 10": lambda b: shutil.rmtree(b.path / MODULES),
    r"not a safetensors file": lambda b: module_file(b).write_bytes(b"garbage"),
    r"first.safetensors is no module": misname,
    r"the modules are not those": swap_modules,
    r"module 0 of layer 0 does not fit": not_a_module,
    r"are no pair of layers": lambda b: strange_pair(b, first="1.conv3"),
    r"does not normalise": lambda b: strange_pair(b, norm="2.1"),
    r"selftest.safetensors was altered": other_selftest,
    r"not a bundle manifest: .*modules must be more": wrong_layers,
    r"not a bundle manifest: .*no rising numbers": strange_fallback,
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_bundle_is_refused(bundle: Bundle, message: str) -> None:
    """Whichever piece is altered, missing or no piece, opening fails and says which."""
    DAMAGES[message](bundle)

    with pytest.raises(BundleError, match=message):
        open_bundle(bundle.path)


def test_what_is_not_the_whole_network_is_not_written(tmp_path: Path, bundle: Bundle) -> None:
    """A sub-model, another network's modules, or NaN: no bundle."""
    base = tiny_modular.make_blocks(tmp_path)
    network = tiny_modular.cut_blocks(base)
    poisoned = tiny_modular.cut_blocks(base)
    with torch.no_grad():
        poisoned.trunk.get_parameter("5.bias").fill_(torch.nan)
    wrong = {
        "lacks modules": (base, derive(network, [(0, 1), (2,)])),
        "no pair of layers": (tiny.make_bundle(tmp_path, "edge"), network),
        "not finite": (base, poisoned),
    }

    for message, (of, made) in wrong.items():
        with pytest.raises(BundleError, match=message):
            create_modular_bundle(tmp_path / "out", base=of, network=made)
    assert not (tmp_path / "out").exists()


def test_bundles_in_one_piece_are_not_opened_as_modular(tmp_path: Path) -> None:
    """The error says how to open it."""
    made = tiny.make_bundle(tmp_path, "edge")

    with pytest.raises(BundleError, match="open it with open_bundle"):
        open_modular(made.path)
