"""Where a network can be cut into modules: pairs of layers with hidden channels between them.

A pair widens and narrows again: a first convolution or linear layer, perhaps a normalisation
layer, an activation, a second layer of the same kind. Its hidden channels do not see each
other, so they can be dealt out: each share of them, with what it needs of both layers, is a
module with the shape of the whole block (Nebula, ICPP 2024, section 4.1: "shrunk modules"). The
two-convolution block of a ResNet, neighbouring convolutions of a VGG and the wide layer of an
MLP are all such pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from driftwell.messages.errors import BundleError
from driftwell.models.modular.aliases import second_names
from driftwell.models.modular.spec import Bypass, Pair

Layer = nn.Conv2d | nn.Linear

_PASSES_BY_CHANNEL: Final = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Sigmoid,
    nn.Dropout, nn.Dropout2d, nn.Identity,
)  # fmt: skip
"""What may stand between a pair's layers: it does to each hidden channel the same."""


Decomposer = Callable[[nn.Module, str], Iterator[Pair]]
"""From a submodule and its name to the pairs that lie directly in it."""


def residual_blocks(module: nn.Module, name: str) -> Iterator[Pair]:
    """Blocks of two convolutions, as ResNets with 18, 20, 34, 56 layers have them."""
    first, second = getattr(module, "conv1", None), getattr(module, "conv2", None)
    norm, fold = getattr(module, "bn1", None), getattr(module, "bn2", None)
    if isinstance(module, nn.Sequential) or hasattr(module, "conv3"):
        return
    if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.Conv2d):
        return
    if not _are_pair(first, second):
        return
    if _normalises(norm, first) and _can_be_folded(fold, second):
        names = [f"{name}.{part}" if name else part for part in ("conv1", "bn1", "conv2", "bn2")]
        yield Pair(names[0], names[1], names[2], names[3], "shortcut")


def chains(module: nn.Module, name: str) -> Iterator[Pair]:
    """Layers one after the other in an `nn.Sequential`: VGGs and MLPs."""
    if not isinstance(module, nn.Sequential):
        return
    # All of them: `named_children` leaves out an activation that is used a second time.
    every = module.named_modules(remove_duplicate=False)
    children = [(own, child) for own, child in every if own and "." not in own]
    for place, (_, first) in enumerate(children):
        pair = _pair_from(children, place) if isinstance(first, Layer) else None
        if pair is not None:
            yield _named(pair, name)


DECOMPOSERS: Final[dict[str, Decomposer]] = {"residual blocks": residual_blocks, "chains": chains}
"""By name. A network of another kind registers its own."""


def find_pairs(network: nn.Module, *, at_least: int, head: str | None = None) -> tuple[Pair, ...]:
    """The network's pairs with at least so many hidden channels, in the network's order.

    Of pairs that share a layer the one with the most parameters stays. The head is in none of
    them, and no layer that the network has under a second name.

    Args:
        network: As it was before it is cut.
        at_least: Hidden channels.
        head: Name of the layer that tells classes apart; None: the last linear layer.

    Raises:
        BundleError: if there is none.
    """
    modules = dict(network.named_modules())
    order = {name: place for place, name in enumerate(modules)}
    every, second_name = _all_pairs(network), second_names(network)
    shared = {
        name: other
        for pair in every
        for name in _parts(pair)
        if (other := second_name(name)) is not None
    }
    found = [pair for pair in every if not shared.keys() & set(_parts(pair))]
    chosen: list[Pair] = []
    heads = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    # What tells classes apart stays whole.
    taken = set(heads[-1:]) if head is None else {head}
    for pair in sorted(found, key=lambda one: (-_parameters(modules, one), order[one.first])):
        if hidden_channels(modules[pair.first]) < at_least or taken & {pair.first, pair.second}:
            continue
        taken |= {pair.first, pair.second}
        chosen.append(pair)
    if not chosen:
        first_shared = list(shared)[:1]
        raise BundleError(
            f"{type(network).__name__} cannot be cut into modules: it has no two convolutions or "
            f"linear layers with {at_least} channels or more between them; known are "
            f"{', '.join(DECOMPOSERS)}"
            + "".join(f"; {name} cannot be cut: it is {shared[name]}, too" for name in first_shared)
        )
    return tuple(sorted(chosen, key=lambda one: order[one.first]))


def require_pairs(network: nn.Module, pairs: Sequence[Pair], *, at_least: int) -> None:
    """Whether pairs that somebody wrote down are pairs of this network.

    Raises:
        BundleError: naming the first that is none.
    """
    modules = dict(network.named_modules())
    known = {(pair.first, pair.second): pair.bypass for pair in _all_pairs(network)}
    taken: set[str] = set()
    for pair in pairs:
        first, second = modules.get(pair.first), modules.get(pair.second)
        parts = _parts(pair)
        fits = _are_pair(first, second) and len(set(parts)) == len(parts) and not taken & {*parts}
        if not fits or first is None or second is None or hidden_channels(first) < at_least:
            raise BundleError(
                f"{pair.first} and {pair.second} are no pair of layers of the network with "
                f"{at_least} channels or more between them"
            )
        for norm, layer in ((pair.norm, first), (pair.fold, second)):
            if norm is not None and not _normalises(modules.get(norm), layer):
                raise BundleError(
                    f"{norm} does not normalise the {_outputs(layer)} channels in front"
                )
        if not _may_pass(pair, first, second, known.get((pair.first, pair.second))):
            raise BundleError(f"the bypass of {pair.first} and {pair.second} is no {pair.bypass}")
        taken |= {*parts}


def hidden_channels(first: nn.Module) -> int:
    """How many channels a pair's first layer gives."""
    if isinstance(first, nn.Conv2d):
        return first.out_channels
    return first.out_features if isinstance(first, nn.Linear) else 0


def _all_pairs(network: nn.Module) -> list[Pair]:
    """What all decomposers find, also pairs that overlap."""
    return [
        pair
        for name, module in network.named_modules()
        for decompose in DECOMPOSERS.values()
        for pair in decompose(module, name)
    ]


def _parts(pair: Pair) -> list[str]:
    """The names of its layers."""
    parts = (pair.first, pair.norm, pair.second, pair.fold)
    return [name for name in parts if name is not None]


def _may_pass(pair: Pair, first: nn.Module, second: nn.Module, known: Bypass | None) -> bool:
    """Whether its bypass may be what somebody wrote down.

    Args:
        pair: As written down.
        first: Its first layer.
        second: Its second layer.
        known: What the decomposers say; None: the pair is of one that is not registered here.
    """
    if known is None:
        return pair.bypass != "identity" or _passes_on(first, second)
    return pair.bypass == known or (known, pair.bypass) == ("shortcut", "none")


def _is_plain(layer: nn.Module, *, weighted: bool = True) -> bool:
    """Whether its parameters are what they seem: no weight is made of others, none is beside it."""
    own = {name for name, _ in layer.named_parameters()}
    return own <= {"weight", "bias"} and ("weight" in own or not weighted)


def _are_pair(first: object, second: object) -> bool:
    if not isinstance(first, Layer) or not isinstance(second, Layer):
        return False
    if not _is_plain(first) or not _is_plain(second):
        return False
    if isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d):
        one_group = first.groups == second.groups == 1
        return one_group and first.out_channels == second.in_channels
    if isinstance(first, nn.Linear) and isinstance(second, nn.Linear):
        return first.out_features == second.in_features
    return False


def _normalises(norm: object, layer: nn.Module) -> bool:
    """Whether a normalisation could be one of the channels that a layer gives."""
    if not isinstance(norm, _BatchNorm) or not _is_plain(norm, weighted=False):
        return False
    return norm.num_features == _outputs(layer)


def _can_be_folded(norm: object, layer: nn.Module) -> bool:
    """Whether a normalisation behind a layer could be multiplied into it."""
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
        return False
    return _normalises(norm, layer)


def _pair_from(children: Sequence[tuple[str, nn.Module]], place: int) -> Pair | None:
    """The pair whose first layer stands at this place; None if none begins there."""
    norm = None
    for at in range(place + 1, len(children)):
        name, module = children[at]
        if isinstance(module, _BatchNorm) and norm is None:
            norm = name
        elif isinstance(module, Layer):
            return _closed(children, place, norm, at)
        elif not isinstance(module, _PASSES_BY_CHANNEL):
            return None
    return None


def _closed(
    children: Sequence[tuple[str, nn.Module]], place: int, norm: str | None, at: int
) -> Pair | None:
    (first_name, first), (second_name, second) = children[place], children[at]
    if not _are_pair(first, second):
        return None
    # A normalisation may be of another axis than the channels, such as that of tokens.
    if norm is not None and not _normalises(dict(children)[norm], first):
        return None
    fold, behind = children[at + 1] if at + 1 < len(children) else ("", None)
    if not isinstance(behind, _BatchNorm):
        fold = ""
    elif not _can_be_folded(behind, second):
        return None
    bypass: Bypass = "identity" if _passes_on(first, second) else "none"
    return Pair(first_name, norm, second_name, fold or None, bypass)


def _passes_on(first: nn.Module, second: nn.Module) -> bool:
    """Whether what goes into a pair has the shape of what comes out."""
    return _keeps_shape(first) and _keeps_shape(second) and _inputs(first) == _outputs(second)


def _keeps_shape(layer: nn.Module) -> bool:
    """Whether height and width stay as they are."""
    if not isinstance(layer, nn.Conv2d):
        return True
    if isinstance(layer.padding, str):
        return layer.padding == "same" and layer.stride == (1, 1)
    spans = zip(layer.kernel_size, layer.dilation, layer.padding, strict=True)
    return layer.stride == (1, 1) and all((k - 1) * d == 2 * p for k, d, p in spans)


def _inputs(layer: nn.Module) -> int:
    return layer.in_channels if isinstance(layer, nn.Conv2d) else int(layer.in_features)  # type: ignore[arg-type]


def _outputs(layer: nn.Module) -> int:
    return layer.out_channels if isinstance(layer, nn.Conv2d) else int(layer.out_features)  # type: ignore[arg-type]


def _named(pair: Pair, prefix: str) -> Pair:
    def full(name: str) -> str:
        return f"{prefix}.{name}" if prefix else name

    return Pair(
        full(pair.first),
        None if pair.norm is None else full(pair.norm),
        full(pair.second),
        None if pair.fold is None else full(pair.fold),
        pair.bypass,
    )


def _parameters(modules: dict[str, nn.Module], pair: Pair) -> int:
    both = (modules[pair.first], modules[pair.second])
    return sum(parameter.numel() for layer in both for parameter in layer.parameters())
