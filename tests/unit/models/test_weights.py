"""Files of weights: what cannot be used is refused, with a sentence."""

import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file
from tests import tiny, tiny_modular

from driftwell.messages.errors import BundleError
from driftwell.models.bundle import open_bundle
from driftwell.models.modular.folder import TRUNK
from driftwell.models.weights import WEIGHTS, read_safetensors


def write(file: Path, name: str, dtype: str, size: int) -> Path:
    """A file of one array of two numbers, as other frameworks write it."""
    told = {"dtype": dtype, "shape": [2], "data_offsets": [0, size]}
    header = msgspec.json.encode({name: told})
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    return file


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("BF16", 4), ("F8_E4M3", 2), ("F8_E5M2", 2), ("F8_E8M0", 2), ("F4", 1), ("C64", 16)],
)
def test_numbers_that_numpy_lacks_are_named(tmp_path: Path, dtype: str, size: int) -> None:
    """With what can be done about them."""
    file = write(tmp_path / "weights.safetensors", "conv1.weight", dtype, size)

    with pytest.raises(BundleError, match=rf"'conv1.weight' as {dtype}.* convert it to float32"):
        read_safetensors(file)


def test_a_name_with_nul_is_refused(tmp_path: Path) -> None:
    """It has no digest; neither a bundle in one piece nor one in modules opens with it."""
    bundle, modular = tiny.make_bundle(tmp_path, "edge"), tiny_modular.make_modular(tmp_path)

    for file in (bundle.path / WEIGHTS, modular.path / TRUNK):
        write(file, "conv1\0.weight", "F32", 8)
        with pytest.raises(BundleError, match="name with NUL"):
            open_bundle(file.parent)


def test_all_that_numpy_has_is_read(tmp_path: Path) -> None:
    """Of any size, none as well."""
    dtypes = ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
    arrays = {name: np.ones((2, 3), np.dtype(name)) for name in dtypes}
    arrays |= {"scalar": np.array(3, np.int64), "none": np.zeros((0, 2), np.float32)}
    save_file(arrays, tmp_path / "all.safetensors")

    read = read_safetensors(tmp_path / "all.safetensors")

    assert {name: (array.dtype, array.tolist()) for name, array in read.items()} == {
        name: (array.dtype, array.tolist()) for name, array in arrays.items()
    }
