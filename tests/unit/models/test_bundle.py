"""Bundles: what is written opens again, and what was altered does not."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tests import tiny

from driftwell.messages.digest import digest_arrays, digest_bytes
from driftwell.messages.errors import BundleError
from driftwell.models.bundle import Bundle, create_bundle, open_bundle
from driftwell.models.manifest import MANIFEST, decode_manifest, encode_manifest
from driftwell.models.selftest import SELFTEST
from driftwell.models.weights import WEIGHTS

IMAGES = tiny.make_images(6)
BATCH_NORM = {
    f"bn{layer}.{field}"
    for layer in (1, 2)
    for field in ("weight", "bias", "running_mean", "running_var")
}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path, "edge")


def save(file: Path, arrays: dict[str, NDArray[np.generic]]) -> str:
    save_file(arrays, file)
    return digest_arrays(arrays)


def edit_manifest(bundle: Bundle, **changes: object) -> None:
    manifest = msgspec.structs.replace(bundle.manifest, **changes)
    (bundle.path / MANIFEST).write_bytes(encode_manifest(manifest))


def create(out: Path, weights: dict[str, NDArray[np.generic]], model: str = "edge") -> Bundle:
    return create_bundle(
        out, model=f"tests.tiny:{model}", weights=weights, shape=tiny.SHAPE,
        classes=tiny.CLASSES, preprocessing=tiny.PREPROCESSING,
    )  # fmt: skip


def test_it_opens_as_it_was_made(bundle: Bundle) -> None:
    """The same digest, weights, source state and logits; the digest is that of the manifest."""
    again = open_bundle(bundle.path)

    assert again.digest == bundle.digest == digest_bytes((bundle.path / MANIFEST).read_bytes())
    assert digest_arrays(again.weights) == digest_arrays(tiny.weights_of(tiny.edge()))
    assert set(again.source) == BATCH_NORM
    assert np.array_equal(again.network().logits(IMAGES), bundle.network().logits(IMAGES))


@pytest.mark.parametrize("model", ["layer_norm", "group_norm"])
def test_other_normalisation_layers_adapt_weight_and_bias(tmp_path: Path, model: str) -> None:
    """LayerNorm and GroupNorm bring two arrays, and a network takes them."""
    made = tiny.make_bundle(tmp_path, model)
    network = made.network()
    before = network.logits(IMAGES)
    network.install(tiny.applied(made))

    assert list(made.source) == ["norm.weight", "norm.bias"]
    assert not np.array_equal(network.logits(IMAGES), before)
    assert np.array_equal(made.network().logits_measuring_statistics(IMAGES), before)


def alter_weights(bundle: Bundle) -> None:
    weights = load_file(bundle.path / WEIGHTS)
    weights["head.bias"] = weights["head.bias"] + 1
    save(bundle.path / WEIGHTS, weights)


def alter_selftest(bundle: Bundle) -> None:
    arrays = load_file(bundle.path / SELFTEST)
    arrays["logits"] = arrays["logits"] * 2
    save(bundle.path / SELFTEST, arrays)


def fail_selftest(bundle: Bundle) -> None:
    arrays = load_file(bundle.path / SELFTEST)
    arrays["logits"] = arrays["logits"] + 1
    edit_manifest(bundle, selftest_digest=save(bundle.path / SELFTEST, arrays))


def alter_source(bundle: Bundle) -> None:
    weights = load_file(bundle.path / WEIGHTS)
    weights["bn1.bias"] = weights["bn1.bias"] + 1
    edit_manifest(bundle, weights_digest=save(bundle.path / WEIGHTS, weights))


DAMAGES: dict[str, Callable[[Bundle], object]] = {
    r"weights.safetensors was altered": alter_weights,
    r"selftest.safetensors was altered": alter_selftest,
    r"fails its self-test": fail_selftest,
    r"source state is not": alter_source,
    r"adaptable arrays are not": lambda b: edit_manifest(b, adaptable=b.manifest.adaptable[1:]),
    r"schema 2": lambda b: edit_manifest(b, schema=2),
    r"preprocessing was edited": lambda b: edit_manifest(b, preprocessing_digest="0" * 64),
    r"no bundle at": lambda b: (b.path / MANIFEST).unlink(),
    r"weights.safetensors does not exist": lambda b: (b.path / WEIGHTS).unlink(),
    r"not a safetensors file": lambda b: (b.path / WEIGHTS).write_bytes(b"garbage"),
    r"not a bundle manifest": lambda b: (b.path / MANIFEST).write_text("{}"),
    r"unknown model": lambda b: edit_manifest(b, model="resnet-unheard-of"),
    r"cannot be imported": lambda b: edit_manifest(b, model="tests.tiny:nothing"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_bundle_is_refused(bundle: Bundle, message: str) -> None:
    """Whichever part is altered or missing, opening fails and says which."""
    DAMAGES[message](bundle)

    with pytest.raises(BundleError, match=message):
        open_bundle(bundle.path)


def test_arrays_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """A missing, an unexpected and a reshaped array are each named; nothing is written."""
    weights = tiny.weights_of(tiny.edge())
    missing = {name: array for name, array in weights.items() if name != "bn2.bias"}
    reshaped = {**weights, "head.bias": np.zeros(5, np.float32)}

    for wrong, message in (
        (missing, r"lack 1 arrays, the first is 'bn2\.bias'"),
        ({**weights, "extra": np.zeros(1)}, r"unexpected 1 arrays, the first is 'extra'"),
        (reshaped, r"reshape 1 arrays, the first is 'head\.bias'"),
    ):
        with pytest.raises(BundleError, match=message):
            create(tmp_path / "out", wrong)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_adapt_or_answer_is_refused(tmp_path: Path) -> None:
    """No normalisation layer, NaN, or too many classes: no bundle."""
    weights = tiny.weights_of(tiny.edge())
    with pytest.raises(BundleError, match="nothing Driftwell could adapt"):
        create(tmp_path / "a", tiny.weights_of(tiny.no_norm()), "no_norm")
    with pytest.raises(BundleError, match="NaN"):
        create(tmp_path / "b", {**weights, "head.bias": np.full(4, np.nan, np.float32)})
    with pytest.raises(BundleError, match="for 3 classes"):
        create_bundle(tmp_path / "c", model="tests.tiny:edge", weights=weights, shape=tiny.SHAPE,
                      classes=("a", "b", "c"), preprocessing=tiny.PREPROCESSING)  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_only_a_bundle_is_replaced(tmp_path: Path, bundle: Bundle) -> None:
    """A bundle is written over a bundle, and over nothing else."""
    weights = tiny.weights_of(tiny.edge(), seed=1)
    other = create(bundle.path, weights)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis").write_text("years")

    with pytest.raises(BundleError, match="not a bundle"):
        create(tmp_path / "precious", weights)

    assert other.digest != bundle.digest
    assert (tmp_path / "precious" / "thesis").read_text() == "years"


def test_a_manifest_comes_back(bundle: Bundle) -> None:
    """Encoding and reading gives the same manifest; one for other channels contradicts itself."""
    assert decode_manifest(encode_manifest(bundle.manifest), where="x") == bundle.manifest
    channels = msgspec.structs.replace(bundle.manifest.input, shape=(8, 8, 3))
    wrong = msgspec.structs.replace(bundle.manifest, input=channels)
    with pytest.raises(BundleError, match="3 channels"):
        decode_manifest(encode_manifest(wrong), where="x")
