"""A modular network in pieces: every module by itself, and the trunk with the selector.

A piece is named arrays, float32, and its name is the digest of them: two devices that hold
the same module hold the same piece, and who has a piece need not fetch it. A bypass has no
arrays, and its piece is the empty one.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import ArrayError
from driftwell.models.modular.module_layer import first_layer, second_layer
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.weights import STEP_COUNTER

Arrays = Mapping[str, NDArray[np.float32]]

EMPTY: Final = digest_arrays({})
"""The name of the bypass."""


def read_module(network: ModularNetwork, layer: int, module: int) -> dict[str, NDArray[np.float32]]:
    """A copy of one module's arrays; none if it is the bypass.

    Raises:
        ArrayError: if the network does not hold it.
    """
    return {name: view.detach().numpy().copy() for name, view in _views(network, layer, module)}


def write_module(network: ModularNetwork, layer: int, module: int, arrays: Arrays) -> None:
    """Put a module's arrays in place, all or none.

    Raises:
        ArrayError: if the network does not hold the module, or names, shapes or dtypes are not
            exactly the module's, or a value is not finite.
    """
    views = dict(_views(network, layer, module))
    _require_fit({name: tuple(view.shape) for name, view in views.items()}, arrays)
    with torch.no_grad():
        for name, view in views.items():
            view.copy_(torch.from_numpy(np.array(arrays[name])))


def read_trunk(network: ModularNetwork) -> dict[str, NDArray[np.float32]]:
    """A copy of all arrays that are no module's: trunk and selector."""
    return {name: tensor.numpy().copy() for name, tensor in _trunk(network).items()}


def write_trunk(network: ModularNetwork, arrays: Arrays) -> None:
    """Put trunk and selector in place, all or none.

    Raises:
        ArrayError: if names, shapes or dtypes are not exactly theirs, or a value is not finite.
    """
    tensors = _trunk(network)
    _require_fit({name: tuple(tensor.shape) for name, tensor in tensors.items()}, arrays)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(np.array(arrays[name])))


def moved_on(
    name: str,
    value: NDArray[np.float32],
    source: NDArray[np.float32],
    target: NDArray[np.float32],
) -> NDArray[np.float32]:
    """An array changed as another was, from source to target; where it was the source, the target.

    Variances stay above 0: two that shrink one would make it negative together.
    """
    moved = np.where(value == source, target, value + (target - source)).astype(np.float32)
    if name.endswith("running_var"):
        moved = np.maximum(moved, np.minimum(value, target))
    return moved


def piece_digest(arrays: Arrays) -> str:
    """The name of a piece."""
    return digest_arrays(arrays)


def _views(network: ModularNetwork, layer: int, module: int) -> Iterator[tuple[str, Tensor]]:
    """The module's slices of the wide layers' arrays; live."""
    place = network.places[layer]
    if module not in place.held:
        raise ArrayError(f"module {module} of layer {layer} is not held")
    at = place.held.index(module)
    start, width = place.starts[at], place.widths[at]
    if not width:
        return
    second = second_layer(network.trunk, place)
    first = first_layer(network.trunk, place)
    for name, tensor in first.named_parameters():
        yield f"first.{name}", tensor.data.narrow(0, start, width)
    if place.norm is not None:
        norm = network.trunk.get_submodule(place.norm)
        for name, tensor in norm.state_dict(keep_vars=True).items():
            if name != STEP_COUNTER:
                yield f"norm.{name}", tensor.data.narrow(0, start, width)
    yield "second.weight", second.layer.weight.data.narrow(1, start, width)


def _trunk(network: ModularNetwork) -> dict[str, Tensor]:
    state = network.state_dict()
    prefixes = tuple(
        f"trunk.{part}."
        for place in network.places
        for part in (place.first, place.norm)
        if part is not None
    )
    gated = {f"trunk.{place.second}.layer.weight" for place in network.places}
    return {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(prefixes) and name not in gated and not name.endswith(STEP_COUNTER)
    }


def _require_fit(shapes: Mapping[str, tuple[int, ...]], arrays: Arrays) -> None:
    if shapes.keys() != arrays.keys():
        raise ArrayError("these are not exactly the piece's arrays")
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float32:
            raise ArrayError(f"array {name!r} is {array.dtype} {array.shape}, not float32 {shape}")
        if not np.isfinite(array).all():
            raise ArrayError(f"array {name!r} is not finite")
