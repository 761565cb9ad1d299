"""From a trained network to a modular one, and from that to sub-models.

Each chosen block's hidden channels are dealt into slices; a module is a copy of a slice, and
the last module of a layer is the bypass. With all slices active at even gates the modular
network computes what the trained one did. The copies of a slice begin almost alike and grow
apart in training, by the selector's choice.
"""

import copy
from collections.abc import Sequence

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
from driftwell.models.modular.probing import (
    Trial,
    alike,
    answer,
    copied,
    counted,
    require_float32,
    slack_of,
    spread_of,
    try_network,
)
from driftwell.models.modular.spec import Structure

__all__ = ["Structure", "decompose", "derive"]


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
        BundleError: if the network has no block that could be cut, fails, holds what is not
            float32 and finite, or computes something else once it is cut.
    """
    require_float32(network)
    shape = tuple(example.shape[1:])
    trial = try_network(network, shape, seed=seed)
    pairs = find_pairs(network, at_least=structure.slices, head=trial.head)
    if structure.layers is not None:
        pairs = pairs[-structure.layers :]
    modular = cut(copied(network), pairs, structure, shape, seed=seed)
    dead = _false_shortcuts(modular, structure, trial)
    if dead:
        pairs = tuple(
            msgspec.structs.replace(pair, bypass="none") if number in dead else pair
            for number, pair in enumerate(pairs)
        )
        modular = cut(copied(network), pairs, structure, shape, seed=seed)
    _require_same(modular, type(network).__name__, structure, trial)
    _require_apart(modular, type(network).__name__, structure, trial)
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
        sub.trunk, sub.selector, places, sub.board,
        structure=sub.structure, pairs=sub.pairs, shape=sub.shape,
    )  # fmt: skip


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


def _false_shortcuts(modular: ModularNetwork, structure: Structure, trial: Trial) -> set[int]:
    """Layers whose bypass leaves nothing of the input: no shortcut goes around them after all."""
    dead = set()
    for number, place in enumerate(modular.places):
        if place.bypass != "shortcut":
            continue
        gates = _even_gates(modular, range(structure.slices))
        gates[number] = torch.zeros(1, len(place.held))
        gates[number][:, place.widths.index(0)] = 1
        if spread_of([answer(modular, inputs, gates) for inputs in trial.inputs]) < trial.slack:
            dead.add(number)
    return dead


def _require_same(modular: ModularNetwork, kind: str, structure: Structure, trial: Trial) -> None:
    """Whether layers are used as their names and places made it seem: else the answer differs."""
    gates = _even_gates(modular, range(structure.slices))
    with counted(modular) as calls:
        got = [answer(modular, inputs, gates) for inputs in trial.inputs]
    for place, count in zip(modular.places, calls, strict=True):
        if not count:
            raise BundleError(
                f"{place.first} and {place.second} of {kind} cannot be cut: its forward pass in "
                "evaluation mode does not run them, or not by these names"
            )
    pairs = zip(got, trial.answers, strict=True)
    if not all(alike(one, expected, trial.slack) for one, expected in pairs):
        raise BundleError(
            f"cut into modules, {kind} computes something else: its forward pass "
            "uses its layers in another way than their names or their order say"
        )


def _require_apart(modular: ModularNetwork, kind: str, structure: Structure, trial: Trial) -> None:
    """Whether hidden channels do not see each other: else what is not held would be missed."""
    chosen = range(0, structure.slices, 2)
    sub = derive(modular, [list(chosen)] * len(modular.places))
    shut, none_shut = _even_gates(modular, chosen), _even_gates(sub, chosen)
    expected = [answer(modular, inputs, shut) for inputs in trial.inputs]
    got = [answer(sub, inputs, none_shut) for inputs in trial.inputs]
    slack = slack_of(expected)
    if not all(alike(*both, slack) for both in zip(got, expected, strict=True)):
        raise BundleError(
            f"cut into modules, {kind} computes something else with some of them: between "
            "the layers of a block its hidden channels see each other, so they cannot be dealt out"
        )


def _even_gates(modular: ModularNetwork, chosen: Sequence[int]) -> list[Tensor]:
    """These modules alike, the others shut; one set of slices is what the trained blocks did."""
    gates = []
    for place in modular.places:
        even = torch.zeros(1, len(place.held))
        even[:, [place.held.index(module) for module in chosen]] = 1 / len(chosen)
        gates.append(even)
    return gates
