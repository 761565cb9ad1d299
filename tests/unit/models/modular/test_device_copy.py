"""A device's copy of a modular bundle: little is there, all of it verified, and more may come."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests import tiny, tiny_modular

from driftwell.messages.delta import apply_delta, encode_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError
from driftwell.models.bundle import Bundle, open_bundle
from driftwell.models.modular.bundle import ModularBundle, open_modular
from driftwell.models.modular.decomposition import derive
from driftwell.models.modular.folder import MODULES, SOURCE, TRUNK
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import Arrays, read_module, read_trunk
from driftwell.models.modular.shares import take_shares
from driftwell.models.modular.spec import Structure
from driftwell.models.modular.writing import create_modular_bundle, write_device_copy
from driftwell.models.network import Network
from driftwell.models.normalisation import Scope
from driftwell.models.selftest import SELFTEST
from driftwell.models.statistics import StatisticsSettings

IMAGES = tiny.make_images(6)
BYPASS = 5
CHOICES = [[(0, 3), (1, 2, BYPASS)], [(BYPASS,), (4,)], [(1, BYPASS), (BYPASS,)]]
SCOPES: tuple[Scope, ...] = ("normalisation", "all")


@pytest.fixture
def whole(tmp_path: Path) -> Bundle:
    return tiny_modular.make_modular(tmp_path)


@pytest.fixture
def copy(tmp_path: Path, whole: Bundle) -> ModularBundle:
    return write_device_copy(whole, tmp_path / "copy")


def module_of(whole: Bundle) -> ModularNetwork:
    module = whole.module()
    assert isinstance(module, ModularNetwork)
    return module


def test_it_is_the_same_bundle_and_small(whole: Bundle, copy: ModularBundle) -> None:
    """The digest is the whole's; the folder holds the fallback's modules, which answer."""
    files = {file.name for file in copy.path.iterdir()}
    with torch.inference_mode():
        inputs = torch.randn(3, 1, 8, 8)
        expected = derive(module_of(whole), copy.spec.fallback)(inputs)

        assert torch.equal(copy.sub_model(copy.spec.fallback)(inputs), expected)
    assert copy.digest == whole.digest
    assert files == {"manifest.json", TRUNK, SELFTEST, SOURCE, MODULES}
    held = {file.stem for file in (copy.path / MODULES).iterdir()}
    assert held == {copy.spec.modules[0][0], copy.spec.modules[1][0]}
    assert copy.module_arrays(0, BYPASS) == {}
    assert copy.module_arrays(0, 1) is None


def test_what_is_missing_is_said(copy: ModularBundle) -> None:
    """As a whole bundle it does not open; a sub-model of modules that are not held is refused."""
    with pytest.raises(BundleError, match=r"not whole: 8 of 10 .*open_modular"):
        open_bundle(copy.path)
    with pytest.raises(BundleError, match="module 1 of layer 0 is not held"):
        copy.sub_model([(1,), (BYPASS,)])
    with pytest.raises(BundleError, match="no module 6 of layer 1"):
        copy.module_arrays(1, 6)
    for chosen in ([(0,)], [(0,), ()], [(0,), (6,)]):
        with pytest.raises(BundleError):
            copy.sub_model(chosen)


@pytest.mark.parametrize("chosen", CHOICES)
def test_a_sub_model_of_fetched_modules_is_what_the_cloud_derives(
    whole: Bundle, copy: ModularBundle, chosen: list[tuple[int, ...]]
) -> None:
    """To the bit, and no larger than it."""
    module = module_of(whole)
    fetched: list[tuple[int, int]] = []

    def fetch(layer: int, number: int) -> Arrays:
        fetched.append((layer, number))
        return read_module(module, layer, number)

    sub = copy.sub_model(chosen, fetch)
    expected = derive(module, chosen)
    inputs = torch.randn(5, 1, 8, 8)

    assert fetched == [(layer, one) for layer, row in enumerate(chosen) for one in row]
    with torch.inference_mode():
        assert torch.equal(sub(inputs), expected(inputs))
    assert [(name, p.shape) for name, p in sub.named_parameters()] == [
        (name, p.shape) for name, p in expected.named_parameters()
    ]


def test_a_file_that_comes_is_held(whole: Bundle, copy: ModularBundle) -> None:
    """A module's file in its place, and the bundle knows it, now and when opened again."""
    digest = copy.spec.modules[1][2]
    name = f"{digest}.safetensors"
    shutil.copy(whole.path / MODULES / name, copy.path / MODULES / name)
    again = open_modular(copy.path)
    wanted = read_module(module_of(whole), 1, 2)

    for bundle in (copy, again):
        held = bundle.module_arrays(1, 2)
        assert held is not None
        assert digest_arrays(held) == digest_arrays(wanted)


def test_the_skeleton_has_the_trunk_and_nothing_else(whole: Bundle, copy: ModularBundle) -> None:
    """The selector scores all modules, none of which is filled in."""
    skeleton = copy.skeleton()
    inputs = torch.randn(4, 1, 8, 8)

    assert digest_arrays(read_trunk(skeleton)) == copy.spec.trunk
    assert not any(array.any() for array in read_module(skeleton, 0, 3).values())
    with torch.inference_mode():
        for mine, theirs in zip(
            skeleton.importance(inputs), module_of(whole).importance(inputs), strict=True
        ):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("chosen", CHOICES)
def test_a_version_of_the_whole_fits_a_sub_model(
    tmp_path: Path, scope: Scope, chosen: list[tuple[int, ...]]
) -> None:
    """Its channels of the whole's adapted state make it answer as the whole would with them."""
    whole = tiny_modular.make_modular(tmp_path, scope)
    bundle = open_modular(whole.path)
    moved = {name: array + np.float32(0.125) for name, array in whole.source.items()}
    version = apply_delta(whole.source, encode_delta(whole.source, moved))
    sub = bundle.network(chosen)
    sub.install(take_shares(version, bundle.adaptable_slices(chosen), sub.state()))
    adapted = module_of(whole)
    Network(adapted, whole.manifest.preprocessing, scope=scope).install(version)
    expected = Network(derive(adapted, chosen), whole.manifest.preprocessing, scope=scope)

    np.testing.assert_allclose(sub.logits(IMAGES), expected.logits(IMAGES), rtol=1e-4, atol=1e-5)
    fresh = bundle.network(chosen)
    assert not np.array_equal(sub.logits(IMAGES), fresh.logits(IMAGES))
    source = take_shares(whole.source, bundle.adaptable_slices(chosen), fresh.state())
    assert digest_arrays(source) == digest_arrays(fresh.state())


def test_the_whole_source_state_lies_beside_where_it_is_small(tmp_path: Path) -> None:
    """So a device can verify what a delta leads to; with all weights it would be the model."""
    small, large = (
        write_device_copy(
            tiny_modular.make_modular(tmp_path / scope, scope), tmp_path / scope / "copy"
        )
        for scope in SCOPES
    )

    assert small.source is not None
    assert digest_arrays(small.source) == small.manifest.source_digest
    assert (large.source, large.scope) == (None, "all")


def test_a_sub_model_follows_its_stream(copy: ModularBundle) -> None:
    """Own statistics see what passes, and signatures are those of the whole network's stem."""
    network = copy.network(copy.spec.fallback, own_statistics=StatisticsSettings())
    first = network.logits(IMAGES)
    for _ in range(5):
        network.logits(IMAGES)

    assert network.signature() is not None
    assert not np.array_equal(network.logits(IMAGES), first)


def test_a_damaged_copy_is_refused(tmp_path: Path, whole: Bundle, copy: ModularBundle) -> None:
    """Source, trunk, self-test, a module's file: all are verified, used or not."""
    shutil.copytree(whole.path / MODULES, copy.path / MODULES, dirs_exist_ok=True)
    (module, *_) = sorted((copy.path / MODULES).iterdir())
    for file in (copy.path / SOURCE, copy.path / TRUNK, copy.path / SELFTEST, module):
        good = file.read_bytes()
        arrays = load_file(file)
        name = min(arrays)
        save_file(arrays | {name: arrays[name][::-1].copy() + arrays[name].dtype.type(1)}, file)
        with pytest.raises(BundleError, match="altered"):
            open_modular(copy.path)
        file.write_bytes(good)
    (copy.path / MODULES / ".DS_Store").write_bytes(b"")
    assert open_modular(copy.path).digest == copy.digest
    (copy.path / MODULES / "part").write_bytes(b"")

    with pytest.raises(BundleError, match="take it out"):
        open_modular(copy.path)


def test_a_copy_without_the_source_state_is_refused(
    tmp_path: Path, whole: Bundle, copy: ModularBundle
) -> None:
    """It would never take a version; where all weights adapt, or all modules are there, it may."""
    (copy.path / SOURCE).unlink()
    with pytest.raises(BundleError, match=r"source.safetensors does not exist.* device-copy"):
        open_modular(copy.path)

    everything = write_device_copy(tiny_modular.make_modular(tmp_path / "all", "all"), copy.path)
    assert open_modular(everything.path).source is None
    assert open_modular(whole.path).source is None


def test_opened_copies_can_be_compared(copy: ModularBundle) -> None:
    """Each is itself, whatever arrays it holds; so is a bundle."""
    again = open_modular(copy.path)

    assert copy != again
    assert copy in {copy, again}


def test_a_whole_bundle_is_not_made_a_copy_of_itself(tmp_path: Path, whole: Bundle) -> None:
    """That would throw its modules away; nor is a bundle in one piece copied."""
    with pytest.raises(BundleError, match="choose another folder"):
        write_device_copy(whole, whole.path)
    with pytest.raises(BundleError, match="open_bundle"):
        write_device_copy(tiny.make_bundle(tmp_path, "edge"), tmp_path / "out")

    assert open_bundle(whole.path).digest == whole.digest
    assert not (tmp_path / "out").exists()


def test_a_fallback_of_modules_comes_with_them(tmp_path: Path) -> None:
    """A copy without the fallback's module is refused, and the module named."""
    base = tiny.make_bundle(tmp_path, "foundation")
    network = tiny_modular.cut(base, Structure(modules=6, slices=4, active=2))
    whole = create_modular_bundle(tmp_path / "modular", base=base, network=network)
    copy = write_device_copy(whole, tmp_path / "copy")
    files = [file.stem for file in (copy.path / MODULES).iterdir()]
    (copy.path / MODULES / f"{files[0]}.safetensors").unlink()

    assert files == [copy.spec.modules[0][0]]
    with pytest.raises(BundleError, match="module 0 of layer 0 is not held"):
        open_modular(copy.path)
