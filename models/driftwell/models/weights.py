"""Arrays by name, from a safetensors file into a torch module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from torch import nn

from driftwell.messages.errors import BundleError

WEIGHTS: Final = "weights.safetensors"
"""Of a bundle in one piece."""
STEP_COUNTER: Final = "num_batches_tracked"
"""PyTorch counts training steps under this name; published weights may or may not have it."""

_DTYPES: Final = frozenset(
    {"BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "F32", "F64"}
)

Weights = Mapping[str, NDArray[np.generic]]


def load_weights(module: nn.Module, weights: Weights, *, where: str) -> nn.Module:
    """Put weights into a module by name.

    Raises:
        BundleError: naming what is missing, unexpected or of another shape.
    """
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}
    tensors = {n: t for n, t in tensors.items() if not n.endswith(STEP_COUNTER)}
    expected = {n: t for n, t in module.state_dict().items() if not n.endswith(STEP_COUNTER)}
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
        BundleError: if it is missing or not such a file, or holds an array that has no digest:
            of numbers that numpy does not have, or under a name with NUL.
    """
    if not path.is_file():
        raise BundleError(f"{path} does not exist")
    try:
        with safe_open(path, framework="numpy") as content:
            dtypes = {name: content.get_slice(name).get_dtype() for name in content.keys()}  # noqa: SIM118
        _require_known(dtypes, where=path)
        return dict(load_file(path))
    except (SafetensorError, ValueError, OSError) as error:
        raise BundleError(f"{path} is not a safetensors file: {error}") from error


def _require_known(dtypes: Mapping[str, str], *, where: Path) -> None:
    for name, dtype in dtypes.items():
        if dtype not in _DTYPES:
            raise BundleError(
                f"{where} holds {name!r} as {dtype}, which is not supported; convert it to float32"
            )
        if "\0" in name:
            raise BundleError(f"{where} holds an array under a name with NUL: {name!r}")
