"""A module layer in place: the pair's layers hold all its modules side by side.

The hidden channels of every module stand one after the other in one wide pair of layers, and
the gates scale them in front of the second. That is the weighted sum of the modules' answers,

    y = b + c sum_i g_i f_i(x) + g_bypass x,   f_i(x) = W2_i act(norm_i(W1_i x + b1_i)),

in two calls, whatever their number: many small convolutions one by one are slower on a CPU. A
module with a gate of 0 adds nothing. The last term is there where the bypass passes the input on;
where a shortcut brings it anyway the bypass has nothing to do. `b` and `c` are the layer's.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from driftwell.messages.errors import BundleError
from driftwell.models.modular.pairs import Layer
from driftwell.models.modular.spec import Bypass

Side = Literal["in", "out"]


class Board:
    """Where the module layers of one network find what belongs to the batch that passes."""

    def __init__(self) -> None:
        self.gates: list[Tensor] = []
        """For each layer (N, modules it holds)."""
        self.inputs: dict[int, Tensor] = {}
        """Of the layers whose bypass passes them on, by layer."""


@dataclass(frozen=True, slots=True)
class Place:
    """A module layer's names, and who stands in it."""

    first: str
    norm: str | None
    second: str
    bypass: Bypass
    held: tuple[int, ...]
    """Numbers of the modules it holds, rising."""
    widths: tuple[int, ...]
    """Hidden channels of each of them; the bypass has 0."""
    total: int
    """Modules the whole model has here."""

    @property
    def starts(self) -> tuple[int, ...]:
        """The first hidden channel of each module it holds."""
        starts, at = [], 0
        for width in self.widths:
            starts.append(at)
            at += width
        return tuple(starts)


class GatedSecond(nn.Module):
    """The second layer of a pair, behind the gates."""

    _module_of: Tensor
    """Whose each hidden channel is: places among the modules held, (hidden channels,)."""

    def __init__(self, layer: Layer, place: Place, number: int, board: Board, scale: float) -> None:
        """Put gates in front of a layer.

        Args:
            layer: With the hidden channels of all modules as inputs.
            place: Whose hidden channels these are.
            number: Of the module layer, from 0.
            board: The network's.
            scale: `c` above: with it, even gates over one set of slices are the trained block.
        """
        super().__init__()
        self.layer = layer
        self.number = number
        self.board = board
        self.scale = scale
        self.passes_on = place.bypass == "identity" and 0 in place.widths
        self._bypass = place.widths.index(0) if 0 in place.widths else -1
        repeats = torch.tensor(place.widths)
        module_of = torch.arange(len(repeats)).repeat_interleave(repeats)
        self._factor = scale
        # The bypass alone: torch has no layers without channels, so there is one, of which
        # nothing is heard and which learns nothing.
        if not len(module_of):
            module_of = torch.zeros(1, dtype=torch.long)
            self._factor = 0.0
        self.register_buffer("_module_of", module_of, persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, hidden channels, ...) -> (N, channels out, ...)."""
        gates = self.board.gates[self.number]
        spread = gates[:, self._module_of] * self._factor
        between = (1,) * (hidden.dim() - 2)
        is_last = isinstance(self.layer, nn.Linear)  # else channels are the second axis
        shape = (len(gates), *between, -1) if is_last else (len(gates), -1, *between)
        gated = hidden * spread.view(shape)
        answer: Tensor = self.layer(gated)
        if self.passes_on:
            bypass = gates[:, self._bypass].view(-1, *(1,) * (answer.dim() - 1))
            answer = answer + bypass * self.board.inputs.pop(self.number)
        return answer


class NotedFirst(nn.Module):
    """The first layer of a pair whose bypass passes on what goes in."""

    def __init__(self, layer: Layer, number: int, board: Board, *, notes: bool) -> None:
        """Put a notebook in front of a layer.

        Args:
            layer: With the hidden channels of all modules as outputs.
            number: Of the module layer, from 0.
            board: The network's.
            notes: Whether the bypass is held; without it arrays have the same names all the same.
        """
        super().__init__()
        self.layer = layer
        self.number = number
        self.board = board
        self.notes = notes

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, channels in, ...) -> (N, hidden channels, ...)."""
        if self.notes:
            self.board.inputs[self.number] = inputs
        hidden: Tensor = self.layer(inputs)
        return hidden


def first_layer(trunk: nn.Module, place: Place) -> nn.Module:
    """The first layer of a place, without what notes its input."""
    layer = trunk.get_submodule(place.first)
    return layer.layer if isinstance(layer, NotedFirst) else layer


def second_layer(trunk: nn.Module, place: Place) -> GatedSecond:
    """The layer behind the gates of a place.

    Raises:
        BundleError: if another layer stands there.
    """
    layer = trunk.get_submodule(place.second)
    if not isinstance(layer, GatedSecond):
        raise BundleError(f"{place.second} is a {type(layer).__name__}, and has no gates")
    return layer


def take_hidden(layer: nn.Module, channels: Sequence[int], *, side: Side) -> nn.Module:
    """A copy of a pair's layer with these hidden channels, in this order; repeats are allowed.

    Args:
        layer: First, normalisation or second layer.
        channels: Which of its hidden channels, at least 0 of them.
        side: `out` where they are what the layer gives, `in` where they are what it takes.

    Raises:
        BundleError: if the layer is none of the kinds known here.
    """
    taken = copy.deepcopy(layer)
    index = torch.tensor(list(channels), dtype=torch.long)
    axis = 1 if side == "in" else 0
    for name, parameter in list(taken.named_parameters()):
        if side == "out" or name == "weight":
            values = parameter.detach().index_select(axis, index)
            setattr(taken, name, nn.Parameter(values, parameter.requires_grad))
    for name, buffer in list(taken.named_buffers()):
        if buffer.dim():
            setattr(taken, name, buffer.index_select(0, index))
    if isinstance(taken, nn.Conv2d):
        setattr(taken, f"{side}_channels", len(index))
    elif isinstance(taken, nn.Linear):
        setattr(taken, f"{side}_features", len(index))
    elif isinstance(taken, _BatchNorm):
        taken.num_features = len(index)
    else:
        raise BundleError(f"a {type(layer).__name__} has no hidden channels that could be taken")
    return taken
