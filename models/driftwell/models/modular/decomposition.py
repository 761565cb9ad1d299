"""From a trained network to a modular one, and from that to sub-models.

Each chosen block's hidden channels are dealt into slices; a module is a copy of a slice, and
the last module of a layer is the bypass. With all slices active at even gates the modular
network computes what the trained one did. The copies of a slice begin almost alike and grow
apart in training, by the selector's choice.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final

import msgspec
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
    first_layer,
    second_layer,
    take_hidden,
)
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pairs import Layer, Pair, find_pairs, hidden_channels
from driftwell.models.modular.selector import Selector

PROBES: Final = 4
"""Random inputs on which a cut network is compared with what it was."""
UNLIKE: Final = 1e-3
"""Difference of logits that is no rounding any more."""
APART: Final = 0.01
"""Noise on copies of a slice, as a share of their weights' standard deviation."""


class Structure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a network is cut. The authors publish the number of modules only."""

    modules: Annotated[int, msgspec.Meta(ge=2, le=256)] = 16
    """Of a layer, the bypass included where there is one."""
    slices: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8
    """Into which a block's hidden channels are dealt: a module has 1 / slices of the width."""
    active: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    """Modules of a layer that answer one image, at most."""
    layers: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    """Only the last so many blocks become module layers; None: all."""

    def __post_init__(self) -> None:
        if self.modules <= self.slices:
            raise ValueError(
                f"modules must be more than the {self.slices} slices: all of these, and the bypass"
            )


def decompose(
    network: nn.Module, example: Tensor, structure: Structure, *, seed: int
) -> ModularNetwork:
    """Cut a network into modules; the network itself stays as it is.

    Args:
        network: With its weights. Pairs of its layers (`pairs`) become module layers.
        example: Inputs (N, ...), as the network takes them; only the shape matters.
        structure: How it is cut.
        seed: Of the noise that sets copies apart, and of the selector's first weights.

    Raises:
        BundleError: if the network has no block that could be cut, or computes something else
            once it is cut.
    """
    pairs = find_pairs(network, at_least=structure.slices)
    if structure.layers is not None:
        pairs = pairs[-structure.layers :]
    probe = torch.randn(PROBES, *example.shape[1:], generator=torch.Generator().manual_seed(seed))
    modular = _build(network, pairs, probe, structure, seed)
    dead = _false_shortcuts(modular, structure, probe)
    if dead:
        pairs = tuple(
            replace(pair, bypass="none") if number in dead else pair
            for number, pair in enumerate(pairs)
        )
        modular = _build(network, pairs, probe, structure, seed)
    _require_same(modular, network, structure, probe)
    return modular


def derive(modular: ModularNetwork, chosen: Sequence[Sequence[int]]) -> ModularNetwork:
    """A sub-model of its own with only these modules; the trunk and the selector are whole.

    Args:
        modular: Holding at least these.
        chosen: For each module layer the numbers of its modules, one at least.

    Raises:
        BundleError: if a layer is left empty or a module is not held.
    """
    if len(chosen) != len(modular.places):
        raise BundleError(f"{len(chosen)} layers are chosen, the model has {len(modular.places)}")
    sub = copy.deepcopy(modular)
    places = []
    for number, (place, wanted) in enumerate(zip(sub.places, chosen, strict=True)):
        missing = sorted(set(wanted) - set(place.held))
        if missing or not wanted:
            what = f"lacks modules {missing}" if missing else "is left without a module"
            raise BundleError(f"module layer {number} ({place.first}) {what}")
        places.append(_narrow(sub, place, number, tuple(sorted(set(wanted)))))
    return ModularNetwork(sub.trunk, sub.selector, places, sub.board, active=modular.active)


def _cut(
    trunk: nn.Module,
    pair: Pair,
    structure: Structure,
    number: int,
    board: Board,
    generator: torch.Generator,
) -> Place:
    first, second = trunk.get_submodule(pair.first), trunk.get_submodule(pair.second)
    if pair.fold is not None:
        second = _folded(second, trunk.get_submodule(pair.fold))
        _replace(trunk, pair.fold, nn.Identity())
    shrunk = structure.modules - (pair.bypass != "none")
    dealt = [
        part.tolist()
        for part in np.array_split(np.arange(hidden_channels(first)), structure.slices)
    ]
    slices = [dealt[module % structure.slices] for module in range(shrunk)]
    channels = [channel for part in slices for channel in part]
    widths = [len(part) for part in slices] + [0] * (pair.bypass != "none")
    place = Place(
        pair.first, pair.norm, pair.second, pair.bypass,
        tuple(range(structure.modules)), tuple(widths), structure.modules,
    )  # fmt: skip
    wide = take_hidden(first, channels, side="out"), take_hidden(second, channels, side="in")
    originals = sum(widths[: structure.slices])
    for layer, axis in zip(wide, (0, 1), strict=True):
        _set_apart(layer.get_parameter("weight"), originals, axis, generator)
    if pair.norm is not None:
        norm = take_hidden(trunk.get_submodule(pair.norm), channels, side="out")
        _replace(trunk, pair.norm, norm)
    _put(trunk, place, wide, number, board, float(structure.slices))
    return place


def _narrow(sub: ModularNetwork, place: Place, number: int, wanted: tuple[int, ...]) -> Place:
    trunk = sub.trunk
    gated = second_layer(trunk, place)
    at = [place.held.index(module) for module in wanted]
    channels = [
        place.starts[where] + channel for where in at for channel in range(place.widths[where])
    ]
    narrowed = Place(
        place.first, place.norm, place.second, place.bypass, wanted,
        tuple(place.widths[where] for where in at), place.total,
    )  # fmt: skip
    channels = channels or [0]  # the bypass alone keeps one of which nothing is heard
    first = take_hidden(first_layer(trunk, place), channels, side="out")
    if place.norm is not None:
        norm = take_hidden(trunk.get_submodule(place.norm), channels, side="out")
        _replace(trunk, place.norm, norm)
    second = take_hidden(gated.layer, channels, side="in")
    _put(trunk, narrowed, (first, second), number, sub.board, gated.scale)
    return narrowed


def _put(
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
    _replace(trunk, place.second, gated)
    _replace(trunk, place.first, NotedFirst(first, number, board) if gated.passes_on else first)


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


def _replace(trunk: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(trunk.get_submodule(parent), own, module)


def _build(
    network: nn.Module, pairs: Sequence[Pair], probe: Tensor, structure: Structure, seed: int
) -> ModularNetwork:
    trunk = copy.deepcopy(network).eval()
    board = Board()
    generator = torch.Generator().manual_seed(seed)
    places = [
        _cut(trunk, pair, structure, number, board, generator) for number, pair in enumerate(pairs)
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        selector = Selector(tuple(probe.shape[1:]), [place.total for place in places])
    return ModularNetwork(trunk, selector.eval(), places, board, active=structure.active)


def _false_shortcuts(modular: ModularNetwork, structure: Structure, probe: Tensor) -> set[int]:
    """Layers whose bypass leaves nothing of the input: no shortcut goes around them after all."""
    dead = set()
    for number, place in enumerate(modular.places):
        if place.bypass != "shortcut":
            continue
        gates = _even_gates(modular, structure)
        gates[number] = torch.zeros(1, len(place.held))
        gates[number][:, place.widths.index(0)] = 1
        if float(_answer(modular, probe, gates).std(dim=0).max()) < UNLIKE:
            dead.add(number)
    return dead


def _require_same(
    modular: ModularNetwork, network: nn.Module, structure: Structure, probe: Tensor
) -> None:
    """Whether layers are used as their names and places made it seem: else the answer differs."""
    with torch.inference_mode():
        expected = copy.deepcopy(network).eval()(probe)
    got = _answer(modular, probe, _even_gates(modular, structure))
    if got.shape != expected.shape or not torch.allclose(got, expected, rtol=UNLIKE, atol=UNLIKE):
        raise BundleError(
            f"cut into modules, {type(network).__name__} computes something else: its forward pass "
            "uses its layers in another way than their names or their order say"
        )


def _even_gates(modular: ModularNetwork, structure: Structure) -> list[Tensor]:
    """One set of slices alike, the others shut: what the trained blocks did."""
    gates = []
    for place in modular.places:
        even = torch.zeros(1, len(place.held))
        even[:, : structure.slices] = 1 / structure.slices
        gates.append(even)
    return gates


def _answer(modular: ModularNetwork, probe: Tensor, gates: Sequence[Tensor]) -> Tensor:
    try:
        with torch.inference_mode():
            return modular.answer(probe, [one.expand(len(probe), -1) for one in gates])
    except (RuntimeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise BundleError(f"the network does not run once it is cut: {error}") from error
