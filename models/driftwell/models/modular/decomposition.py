"""From a trained network to a modular one, and from that to sub-models.

Each chosen block's hidden channels are dealt into slices; a module is a copy of a slice, and
the last module of a layer is the bypass. With all slices active at even gates the modular
network computes what the trained one did. The copies of a slice begin almost alike and grow
apart in training, by the selector's choice.
"""

import copy
from collections.abc import Sequence
from typing import Final

import msgspec
import torch
from torch import Tensor, nn

from driftwell.messages.errors import BundleError
from driftwell.models.modular.cutting import (
    Chosen,
    cut,
    held_places,
    put_layers,
    replace_module,
)
from driftwell.models.modular.module_layer import Place, first_layer, second_layer, take_hidden
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pairs import find_pairs
from driftwell.models.modular.spec import Structure

__all__ = ["Structure", "decompose", "derive"]

PROBES: Final = 4
"""Random inputs on which a cut network is compared with what it was."""
UNLIKE: Final = 1e-3
"""Difference of logits that is no rounding any more."""


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
    shape = tuple(example.shape[1:])
    probe = torch.randn(PROBES, *shape, generator=torch.Generator().manual_seed(seed))
    modular = cut(copy.deepcopy(network), pairs, structure, shape, seed=seed)
    dead = _false_shortcuts(modular, structure, probe)
    if dead:
        pairs = tuple(
            msgspec.structs.replace(pair, bypass="none") if number in dead else pair
            for number, pair in enumerate(pairs)
        )
        modular = cut(copy.deepcopy(network), pairs, structure, shape, seed=seed)
    _require_same(modular, network, structure, probe)
    return modular


def derive(modular: ModularNetwork, chosen: Chosen) -> ModularNetwork:
    """A sub-model of its own with only these modules; the trunk and the selector are whole.

    Args:
        modular: Holding at least these.
        chosen: For each module layer the numbers of its modules, one at least.

    Raises:
        BundleError: if a layer is left empty or a module is not held.
    """
    places = held_places(modular.places, chosen)
    sub = copy.deepcopy(modular)
    for number, (before, after) in enumerate(zip(modular.places, places, strict=True)):
        _narrow(sub, before, after, number)
    return ModularNetwork(
        sub.trunk, sub.selector, places, sub.board, structure=sub.structure, pairs=sub.pairs
    )


def _narrow(sub: ModularNetwork, before: Place, after: Place, number: int) -> None:
    trunk = sub.trunk
    gated = second_layer(trunk, before)
    at = [before.held.index(module) for module in after.held]
    channels = [
        before.starts[where] + channel for where in at for channel in range(before.widths[where])
    ]
    channels = channels or [0]  # the bypass alone keeps one of which nothing is heard
    first = take_hidden(first_layer(trunk, before), channels, side="out")
    if before.norm is not None:
        norm = take_hidden(trunk.get_submodule(before.norm), channels, side="out")
        replace_module(trunk, before.norm, norm)
    second = take_hidden(gated.layer, channels, side="in")
    put_layers(trunk, after, (first, second), number, sub.board, gated.scale)


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
