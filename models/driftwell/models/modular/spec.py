"""Pure. How a network is cut into modules, and what a modular bundle says about its pieces."""

from typing import Annotated, Literal

import msgspec

from driftwell.messages.envelope import Digest

Bypass = Literal["shortcut", "identity", "none"]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Layers = msgspec.Meta(min_length=1, max_length=1000)
ModuleNumber = Annotated[int, msgspec.Meta(ge=0, le=255)]


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


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One place for a module layer; names are those of the network's submodules."""

    first: Name
    norm: Name | None
    """BatchNorm of the hidden channels; None: there is none."""
    second: Name
    fold: Name | None
    """BatchNorm right behind the second layer, to be folded into it; None: there is none."""
    bypass: Bypass
    """What the input is to a module that does nothing: the block's own shortcut brings it,
    or it is passed on as it is; `none`: shapes differ, and there is no such module."""


class ModularSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle says about its modules: nothing of it depends on weights."""

    structure: Structure
    pairs: Annotated[tuple[Pair, ...], Layers]
    """One a module layer, in the network's order."""
    modules: Annotated[tuple[tuple[Digest, ...], ...], Layers]
    """The piece digest of every module of every layer; the bypass has the empty piece's."""
    trunk: Digest
    """The piece digest of trunk and selector."""
    fallback: Annotated[tuple[tuple[ModuleNumber, ...], ...], Layers]
    """Modules of the sub-model that a device may go back to at any time: each layer's, rising."""

    def __post_init__(self) -> None:
        each = self.structure.modules
        if not len(self.pairs) == len(self.modules) == len(self.fallback):
            raise ValueError("pairs, modules and fallback are not of the same number of layers")
        if any(len(layer) != each for layer in self.modules):
            raise ValueError(f"a layer has not the {each} modules of the structure")
        for layer in self.fallback:
            if not layer or list(layer) != sorted(set(layer)) or layer[-1] >= each:
                raise ValueError(f"fallback {layer} are no rising numbers of {each} modules")
