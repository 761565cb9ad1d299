"""Puts module layers in the places of a network's blocks: all modules, or only some of them.

Nothing but the network's form and the pairs decide what comes out, so that whoever has both can
build the same modular network without weights, and fill them in.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from driftwell.messages.errors import BundleError
from driftwell.models.modular.module_layer import (
    Board,
    GatedSecond,
    NotedFirst,
    Place,
    take_hidden,
)
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pairs import Layer, hidden_channels
from driftwell.models.modular.selector import Selector
from driftwell.models.modular.spec import Pair, Structure

APART: Final = 0.01
"""Noise on copies of a slice, as a share of their weights' standard deviation."""

Chosen = Sequence[Sequence[int]]
"""For each module layer the numbers of its modules."""


def whole_places(
    network: nn.Module, pairs: Sequence[Pair], structure: Structure
) -> tuple[Place, ...]:
    """The module layers of the whole model, with all their modules.

    Args:
        network: Before it is cut.
        pairs: Of its layers.
        structure: How it is cut.
    """
    return tuple(_whole_place(network, pair, structure) for pair in pairs)


def cut(
    network: nn.Module,
    pairs: Sequence[Pair],
    structure: Structure,
    shape: tuple[int, ...],
    *,
    seed: int,
    chosen: Chosen | None = None,
) -> ModularNetwork:
    """Cut a network, which becomes the trunk.

    Args:
        network: Changed in place.
        pairs: Which of its layers become module layers.
        structure: How.
        shape: Of one input, as the network takes it.
        seed: Of the noise that sets copies apart, and of the selector's first weights.
        chosen: The modules it shall hold, at least one a layer; None: all. With few of them it
            is never larger than the network and these.

    Raises:
        BundleError: if a layer is left empty or there is no such module.
    """
    network.eval()
    board = Board()
    generator = torch.Generator().manual_seed(seed)
    whole = whole_places(network, pairs, structure)
    places = whole if chosen is None else held_places(whole, chosen)
    for number, pair in enumerate(pairs):
        _cut_one(network, pair, places[number], structure, number, board, generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        selector = Selector(shape, [place.total for place in places])
    return ModularNetwork(
        network, selector.eval(), places, board, structure=structure, pairs=pairs, shape=shape
    )


def held_places(places: Sequence[Place], chosen: Chosen) -> tuple[Place, ...]:
    """The places with only these of their modules.

    Raises:
        BundleError: if a layer is left empty or a module is not held.
    """
    if len(chosen) != len(places):
        raise BundleError(f"{len(chosen)} layers are chosen, the model has {len(places)}")
    narrowed = []
    for number, (place, wanted) in enumerate(zip(places, chosen, strict=True)):
        missing = sorted(set(wanted) - set(place.held))
        if missing or not wanted:
            what = f"lacks modules {missing}" if missing else "is left without a module"
            raise BundleError(f"module layer {number} ({place.first}) {what}")
        held = tuple(sorted(set(wanted)))
        widths = tuple(place.widths[place.held.index(module)] for module in held)
        narrowed.append(replace(place, held=held, widths=widths))
    return tuple(narrowed)


def put_layers(
    trunk: nn.Module,
    place: Place,
    layers: tuple[nn.Module, nn.Module],
    number: int,
    board: Board,
    scale: float,
) -> None:
    """Put a pair's two wide layers in their place, with gates between them."""
    first, second = layers
    if not isinstance(first, Layer) or not isinstance(second, Layer):
        raise BundleError(f"{place.first} and {place.second} are no pair of layers")
    gated = GatedSecond(second, place, number, board, scale)
    replace_module(trunk, place.second, gated)
    if place.bypass == "identity":
        replace_module(trunk, place.first, NotedFirst(first, number, board, notes=gated.passes_on))
    else:
        replace_module(trunk, place.first, first)


def replace_module(trunk: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module where the one of this name is."""
    parent, _, own = name.rpartition(".")
    setattr(trunk.get_submodule(parent), own, module)


def _whole_place(network: nn.Module, pair: Pair, structure: Structure) -> Place:
    dealt = _dealt(hidden_channels(network.get_submodule(pair.first)), structure)
    has_bypass = pair.bypass != "none"
    shrunk = structure.modules - has_bypass
    widths = [len(dealt[module % structure.slices]) for module in range(shrunk)] + [0] * has_bypass
    return Place(
        pair.first, pair.norm, pair.second, pair.bypass,
        tuple(range(structure.modules)), tuple(widths), structure.modules,
    )  # fmt: skip


def _dealt(hidden: int, structure: Structure) -> list[list[int]]:
    """The hidden channels, dealt into slices."""
    return [part.tolist() for part in np.array_split(np.arange(hidden), structure.slices)]


def _cut_one(
    trunk: nn.Module,
    pair: Pair,
    place: Place,
    structure: Structure,
    number: int,
    board: Board,
    generator: torch.Generator,
) -> None:
    first, second = trunk.get_submodule(pair.first), trunk.get_submodule(pair.second)
    if pair.fold is not None:
        second = _folded(second, trunk.get_submodule(pair.fold))
        replace_module(trunk, pair.fold, nn.Identity())
    dealt = _dealt(hidden_channels(first), structure)
    channels = [
        channel
        for module, width in zip(place.held, place.widths, strict=True)
        if width
        for channel in dealt[module % structure.slices]
    ]
    channels = channels or [0]  # the bypass alone keeps one of which nothing is heard
    wide = take_hidden(first, channels, side="out"), take_hidden(second, channels, side="in")
    if len(place.held) == place.total:
        originals = sum(place.widths[: structure.slices])
        for layer, axis in zip(wide, (0, 1), strict=True):
            _set_apart(layer.get_parameter("weight"), originals, axis, generator)
    if pair.norm is not None:
        norm = take_hidden(trunk.get_submodule(pair.norm), channels, side="out")
        replace_module(trunk, pair.norm, norm)
    put_layers(trunk, place, wide, number, board, float(structure.slices))


def _folded(layer: nn.Module, norm: nn.Module) -> Layer:
    """The layer with the normalisation behind it, by its running statistics, multiplied in."""
    if not isinstance(layer, Layer) or not isinstance(norm, _BatchNorm):
        raise BundleError(f"a {type(norm).__name__} cannot be folded into a {type(layer).__name__}")
    if norm.running_mean is None or norm.running_var is None:
        raise BundleError("a normalisation layer without running statistics cannot be folded")
    folded = copy.deepcopy(layer)
    factor = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight.detach()
    bias = layer.bias.detach() if layer.bias is not None else torch.zeros_like(factor)
    shift = (bias - norm.running_mean) * factor
    if norm.bias is not None:
        shift = shift + norm.bias.detach()
    with torch.no_grad():
        folded.weight.mul_(factor.view(-1, *(1,) * (folded.weight.dim() - 1)))
    folded.bias = nn.Parameter(shift)
    return folded


def _set_apart(weight: Tensor, originals: int, axis: int, generator: torch.Generator) -> None:
    """Noise on all hidden channels but those of the first set of slices."""
    with torch.no_grad():
        copies = weight.narrow(axis, originals, weight.shape[axis] - originals)
        spread = float(weight.std()) * APART if weight.numel() > 1 else 0.0
        copies += torch.randn(copies.shape, generator=generator) * spread
