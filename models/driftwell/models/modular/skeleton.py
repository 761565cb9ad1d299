"""From a manifest to a modular network without its modules' weights, and from pieces to a whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from driftwell.messages.errors import ArrayError, BundleError
from driftwell.models.factories import build_model
from driftwell.models.modular.cutting import Chosen, cut, whole_places
from driftwell.models.modular.module_layer import Place, first_layer, second_layer
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pairs import require_pairs
from driftwell.models.modular.pieces import Arrays, write_module, write_trunk
from driftwell.models.modular.spec import ModularSpec

Size = tuple[int, int, int]
ArraysOf = Callable[[int, int], Arrays | None]
"""From the numbers of layer and module to its arrays; None: nobody has them."""


def build_skeleton(
    model: str, spec: ModularSpec, shape: Size, chosen: Chosen | None = None
) -> ModularNetwork:
    """The network that a modular bundle is of, all modules' arrays zero.

    Args:
        model: Name of the network that was cut (`factories.build_model`).
        spec: How it was cut.
        shape: Of one image: height, width, channels.
        chosen: For each layer the modules it shall hold; None: all.

    Raises:
        BundleError: if there is no such network, it cannot be cut like that, a layer is left
            empty or there is no such module.
    """
    height, width, channels = shape
    network = build_model(model)
    require_pairs(network, spec.pairs, at_least=spec.structure.slices)
    skeleton = cut(
        network, spec.pairs, spec.structure, (channels, height, width), seed=0, chosen=chosen
    )
    with torch.no_grad():
        for place in skeleton.places:
            wide: list[Tensor] = list(first_layer(skeleton.trunk, place).parameters())
            wide.append(second_layer(skeleton.trunk, place).layer.weight)
            if place.norm is not None:
                wide += skeleton.trunk.get_submodule(place.norm).state_dict().values()
            for tensor in wide:
                tensor.zero_()
    return skeleton


def spec_places(model: str, spec: ModularSpec) -> tuple[Place, ...]:
    """The module layers of the whole model.

    Raises:
        BundleError: if there is no such network, or it cannot be cut like that.
    """
    network = build_model(model)
    require_pairs(network, spec.pairs, at_least=spec.structure.slices)
    return whole_places(network, spec.pairs, spec.structure)


def put_trunk(network: ModularNetwork, trunk: Arrays, *, where: str) -> None:
    """Put trunk and selector in place; `where` they come from is for the error.

    Raises:
        BundleError: if they do not fit.
    """
    with _named(f"{where}: what is in trunk and selector"):
        write_trunk(network, trunk)


def put_modules(network: ModularNetwork, arrays_of: ArraysOf, *, where: str) -> None:
    """Put the arrays of all modules that a network holds in place.

    Raises:
        BundleError: if a module's arrays are not there, or do not fit.
    """
    for layer, place in enumerate(network.places):
        for module in place.held:
            arrays = arrays_of(layer, module)
            if arrays is None:
                raise BundleError(f"{where}: module {module} of layer {layer} is not held")
            with _named(f"{where}: what is in module {module} of layer {layer}"):
                write_module(network, layer, module, arrays)


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except ArrayError as error:
        raise BundleError(f"{what} does not fit the network: {error}") from error
