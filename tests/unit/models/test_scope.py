"""Which arrays may adapt: a normalisation layer's state, or all weights."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tests import tiny
from torch import nn

from driftwell.messages.digest import digest_bytes
from driftwell.messages.errors import BundleError
from driftwell.models.bundle import Bundle, create_bundle, open_bundle
from driftwell.models.manifest import MANIFEST, encode_manifest
from driftwell.models.normalisation import (
    MAX_ADAPTABLE_VALUES,
    Scope,
    adaptable_tensors,
    affine_names,
)
from driftwell.models.statistics import StatisticsSettings

GOLDEN = Path(__file__).parents[2] / "golden" / "recording"
NORMALISATION = [
    f"bn{layer}.{field}"
    for layer in (1, 2)
    for field in ("weight", "bias", "running_mean", "running_var")
]
ALL = ["conv1.weight", *NORMALISATION[:4], "conv2.weight", *NORMALISATION[4:], "head.weight",
       "head.bias"]  # fmt: skip
IMAGES = tiny.make_images(6)


def create(out: Path, scope: Scope, model: str = "edge") -> Bundle:
    factory = getattr(tiny, model)
    return create_bundle(
        out, model=f"tests.tiny:{model}", weights=tiny.weights_of(factory()), shape=tiny.SHAPE,
        classes=tiny.CLASSES, preprocessing=tiny.PREPROCESSING, scope=scope,
    )  # fmt: skip


@pytest.mark.parametrize(("scope", "names"), [("normalisation", NORMALISATION), ("all", ALL)])
def test_a_bundle_says_which_arrays_may_adapt(
    tmp_path: Path, scope: Scope, names: list[str]
) -> None:
    """It opens with the scope it was made with; list and source are in the network's order."""
    create(tmp_path / "edge", scope)

    bundle = open_bundle(tmp_path / "edge")

    assert bundle.scope == scope
    assert list(bundle.source) == names
    assert [entry.name for entry in bundle.manifest.adaptable] == names
    assert list(bundle.network(own_statistics=StatisticsSettings()).state()) == names


def test_all_weights_of_a_network_can_be_replaced(tmp_path: Path) -> None:
    """A network that gets another's state answers as that one does, bit for bit."""
    bundle = create(tmp_path / "edge", "all")
    module = tiny.edge()
    other = {n: torch.from_numpy(np.array(a)) for n, a in tiny.weights_of(module, seed=3).items()}
    module.load_state_dict(other, strict=False)
    state = {name: array for name, array in tiny.weights_of(module, seed=3).items() if name in ALL}

    for own_statistics in (None, StatisticsSettings()):
        network = bundle.network(own_statistics=own_statistics)
        network.install({name: np.asarray(state[name], np.float32) for name in ALL})
        if own_statistics is None:
            wanted = tiny.make_bundle(tmp_path / "other", "edge", seed=3).network()
            assert np.array_equal(network.logits(IMAGES), wanted.logits(IMAGES))
        got = network.state()
        assert all(np.array_equal(got[name], state[name]) for name in ALL)
        assert all(array.flags.c_contiguous for array in got.values())


def test_earlier_bundles_open_under_their_names() -> None:
    """Those of the golden recording: only normalisation adapts, and the digest is the file's."""
    for name in ("edge", "foundation"):
        bundle = open_bundle(GOLDEN / name)

        assert bundle.scope == "normalisation"
        assert bundle.digest == digest_bytes((GOLDEN / name / MANIFEST).read_bytes())
        assert encode_manifest(bundle.manifest) == (GOLDEN / name / MANIFEST).read_bytes()


def test_any_other_list_is_refused(tmp_path: Path) -> None:
    """Neither scope leaves an array out, or has another order."""
    bundle = create(tmp_path / "edge", "all")
    listed = bundle.manifest.adaptable
    for wrong in (listed[1:], listed[:-1], listed[::-1]):
        manifest = msgspec.structs.replace(bundle.manifest, adaptable=wrong)
        (bundle.path / MANIFEST).write_bytes(encode_manifest(manifest))
        with pytest.raises(BundleError, match="adaptable arrays are not those"):
            open_bundle(bundle.path)


def test_a_network_without_normalisation_may_adapt_with_all(tmp_path: Path) -> None:
    """Its parameters are what adapts."""
    bundle = create(tmp_path / "edge", "all", "no_norm")

    assert open_bundle(bundle.path).scope == "all"
    assert list(bundle.source) == ["first.weight", "first.bias", "head.weight", "head.bias"]


def test_too_many_values_are_refused() -> None:
    """Over the limit the error says how many there are, and what to do; normalisation is free."""
    network = nn.Sequential(nn.Linear(10_000, 5000, device="meta"), nn.LayerNorm(8))

    with pytest.raises(BundleError, match=f"50,005,016 values, at most {MAX_ADAPTABLE_VALUES:,}"):
        adaptable_tensors(network, "all")
    assert list(adaptable_tensors(network)) == ["1.weight", "1.bias"]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(2, 2, dtype=torch.float64), r"'weight' is torch\.float64"),
        (nn.Embedding(70_000, 2), r"'weight' is \(70000, 2\); an axis holds 1 to 65535"),
        (nn.ReLU(), "has no parameter"),
    ],
)
def test_arrays_that_cannot_travel_are_refused(network: nn.Module, message: str) -> None:
    """Another dtype, or an axis that no manifest could name."""
    with pytest.raises(BundleError, match=message):
        adaptable_tensors(network, "all")


def test_a_shared_parameter_is_there_once() -> None:
    """Under the name by which it comes first."""
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight

    names = list(adaptable_tensors(nn.Sequential(first, second), "all"))

    assert names == ["0.weight", "0.bias", "1.bias"]


def test_affine_arrays_are_those_of_normalisation_layers() -> None:
    """A convolution's weight is not one, though it is called so, too."""
    assert affine_names(tiny.edge()) == {"bn1.weight", "bn1.bias", "bn2.weight", "bn2.bias"}
