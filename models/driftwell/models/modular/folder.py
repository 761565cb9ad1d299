"""Files of a modular bundle's pieces: `trunk.safetensors`, `modules/<digest>.safetensors`.

A piece's file has the piece's name, so what is in it can be verified by itself, and equal modules
are one file. The bypass has no arrays and no file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import EMPTY, Arrays
from driftwell.models.modular.skeleton import Size, build_skeleton, put_modules, put_trunk
from driftwell.models.modular.spec import ModularSpec
from driftwell.models.weights import STEP_COUNTER, read_safetensors

TRUNK: Final = "trunk.safetensors"
MODULES: Final = "modules"
SUFFIX: Final = ".safetensors"
SOURCE: Final = "source.safetensors"
"""Of a device's copy where normalisation layers adapt: the whole model's source state."""


def module_file(folder: Path, digest: str) -> Path:
    """Where a bundle keeps the module of this piece digest."""
    return folder / MODULES / f"{digest}{SUFFIX}"


def read_trunk_file(folder: Path, spec: ModularSpec) -> Arrays:
    """Trunk and selector.

    Raises:
        BundleError: if the file is missing, or holds something else.
    """
    return read_arrays(folder / TRUNK, spec.trunk)


def read_module_file(folder: Path, digest: str) -> Arrays | None:
    """A module's arrays, verified; None: there is no such file.

    Raises:
        BundleError: if the file holds something else.
    """
    if digest == EMPTY:
        return {}
    file = module_file(folder, digest)
    return read_arrays(file, digest) if file.exists() else None


def held_pieces(folder: Path, spec: ModularSpec) -> frozenset[str]:
    """Piece digests of the modules whose files are there; the bypass is always there.

    Names that begin with a dot are not looked at: file managers leave such files.

    Raises:
        BundleError: if there is a file that is no module's.
    """
    named = {f"{digest}{SUFFIX}" for layer in spec.modules for digest in layer if digest != EMPTY}
    inside = (folder / MODULES).iterdir() if (folder / MODULES).is_dir() else ()
    files = sorted(file for file in inside if not file.name.startswith("."))
    for file in files:
        if file.name not in named or not file.is_file():
            raise BundleError(f"{file} is no module of this bundle; take it out of the folder")
    return frozenset({EMPTY, *(file.name.removesuffix(SUFFIX) for file in files)})


def require_whole(folder: Path, spec: ModularSpec) -> None:
    """Whether a folder holds all modules.

    Raises:
        BundleError: saying how many are missing, and what can be done.
    """
    named = {digest for layer in spec.modules for digest in layer}
    missing = sorted(named - held_pieces(folder, spec))
    if missing:
        raise BundleError(
            f"{folder} is not whole: {len(missing)} of {len(named - {EMPTY})} module files are "
            f"missing, the first is {MODULES}/{missing[0]}{SUFFIX}. Fetch them, or take the bundle "
            "it was copied from. A device opens it with open_modular; look into it with: "
            "driftwell modular show"
        )


def read_whole(folder: Path, model: str, spec: ModularSpec, shape: Size) -> ModularNetwork:
    """The whole modular network.

    Raises:
        BundleError: if a file is missing or altered, or what they hold does not fit the network.
    """
    require_whole(folder, spec)
    network = build_skeleton(model, spec, shape)
    put_trunk(network, read_trunk_file(folder, spec), where=str(folder))
    put_modules(
        network,
        lambda layer, module: read_module_file(folder, spec.modules[layer][module]),
        where=str(folder),
    )
    return network


def whole_weights(network: ModularNetwork) -> dict[str, NDArray[np.float32]]:
    """Copies of all arrays of a network, without counters of training steps."""
    return {
        name: np.ascontiguousarray(tensor.numpy()).copy()
        for name, tensor in network.state_dict().items()
        if not name.endswith(STEP_COUNTER)
    }


def write_pieces(folder: Path, trunk: Arrays, pieces: Mapping[str, Arrays]) -> None:
    """Write trunk and modules, by piece digest, into a folder that has neither."""
    save_file({name: np.array(array) for name, array in trunk.items()}, folder / TRUNK)
    (folder / MODULES).mkdir()
    for digest, arrays in pieces.items():
        if digest != EMPTY:
            copied = {name: np.array(array) for name, array in arrays.items()}
            save_file(copied, module_file(folder, digest))


def read_arrays(file: Path, digest: str) -> Arrays:
    """The float32 arrays of a file, if they are the ones of this digest.

    Raises:
        BundleError: if the file is missing, or holds something else.
    """
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, array in read_safetensors(file).items():
        if array.dtype != np.float32:
            raise BundleError(f"{file} holds {name!r} as {array.dtype}, must be float32")
        arrays[name] = array.view(np.float32)
    if digest_arrays(arrays) != digest:
        raise BundleError(f"{file} was altered: its digest is not the one it is named by")
    return arrays
