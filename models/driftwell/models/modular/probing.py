"""What a network answers to random inputs: with it a cut network is compared.

What is rounding is told by how much the network's answers differ from input to input, not by a
number of its own: probabilities of a thousand classes are small, and so are their differences.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from driftwell.messages.errors import BundleError
from driftwell.models.modular.module_layer import GatedSecond
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.weights import STEP_COUNTER

PROBES: Final = (3, 5)
"""Random inputs at a time. Two numbers: no axis of a network is as long as both of them."""
UNLIKE: Final = 1e-3
"""Share of the answers' spread from which on a difference is no rounding any more."""
ROUNDING: Final = 1e-6
"""Share of the answers' size that is rounding all the same, in sums of large numbers."""
LEAST_SPREAD: Final = 1e-5
"""Share of the answers' size below which their spread itself may be rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Random inputs, and what the network answered before it was cut."""

    inputs: tuple[Tensor, ...]
    """For each of `PROBES` (N, ...)."""
    answers: tuple[Tensor, ...]
    """For each of them (N, ...)."""
    head: str | None
    """Name of the linear layer that was the last to run; None: none ran."""

    @property
    def slack(self) -> float:
        """How far answers may be off."""
        return slack_of(self.answers)


def try_network(network: nn.Module, shape: tuple[int, ...], *, seed: int) -> Trial:
    """Ask a network before it is cut; it stays as it is.

    Args:
        network: In any mode; it is asked in evaluation mode.
        shape: Of one input.
        seed: Of the random inputs.

    Raises:
        BundleError: if it fails, does not give one finite answer for each input, or gives all
            inputs the same: then nothing could be compared.
    """
    asked = copied(network).eval()
    ran: list[str] = []
    for name, layer in asked.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda *_, name=name: ran.append(name))
    generator = torch.Generator().manual_seed(seed)
    inputs = tuple(torch.randn(count, *shape, generator=generator) for count in PROBES)
    try:
        with torch.inference_mode():
            answers = tuple(asked(one) for one in inputs)
    except Exception as error:  # the network is the user's code: whatever it raises is reported
        raise BundleError(
            f"{_kind(network)} does not run on inputs of {shape}: {_told(error)}"
        ) from error
    _require_comparable(network, answers)
    return Trial(inputs, answers, ran[-1] if ran else None)


def copied(network: nn.Module) -> nn.Module:
    """A network of its own, with the same arrays.

    Raises:
        BundleError: if it cannot be copied.
    """
    try:
        return copy.deepcopy(network)
    except Exception as error:  # as in networks with the weight normalisation of old
        raise BundleError(f"{_kind(network)} cannot be copied: {_told(error)}") from error


def require_float32(network: nn.Module) -> None:
    """Whether a network's arrays can be a piece: float32 and finite, all of them.

    Raises:
        BundleError: naming the first array that is not.
    """
    for name, tensor in network.state_dict().items():
        if name.endswith(STEP_COUNTER):
            continue
        if is_lazy(tensor):
            raise BundleError(f"{name!r} of {_kind(network)} has no shape yet")
        if tensor.dtype != torch.float32:
            raise BundleError(
                f"{name!r} of {_kind(network)} is {tensor.dtype}, and what is cut into modules is "
                "float32: convert it, or register it with persistent=False if the factory makes it"
            )
        if not bool(tensor.isfinite().all()):
            raise BundleError(
                f"{name!r} of {_kind(network)} holds NaN or infinity: use finite numbers, or "
                "register it with persistent=False if the factory makes it"
            )


def answer(modular: ModularNetwork, inputs: Tensor, gates: Sequence[Tensor]) -> Tensor:
    """What a cut network answers to inputs (N, ...), with gates (1, modules held) a layer.

    Raises:
        BundleError: if it fails.
    """
    try:
        with torch.inference_mode():
            return modular.answer(inputs, [one.expand(len(inputs), -1) for one in gates])
    except Exception as error:  # the forward pass is the user's code
        raise BundleError(f"the network does not run once it is cut: {_told(error)}") from error


@contextmanager
def counted(modular: ModularNetwork) -> Iterator[list[int]]:
    """How often each module layer runs meanwhile, by its number."""
    calls = [0] * len(modular.places)

    def count(layer: nn.Module, *_: object) -> None:
        if isinstance(layer, GatedSecond):
            calls[layer.number] += 1

    hooks = [
        layer.register_forward_hook(count)
        for layer in modular.trunk.modules()
        if isinstance(layer, GatedSecond)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def slack_of(answers: Sequence[Tensor]) -> float:
    """How far answers (N, ...) may be off: what is rounding in numbers like these."""
    return UNLIKE * spread_of(answers) + ROUNDING * _size_of(answers)


def spread_of(answers: Sequence[Tensor]) -> float:
    """The largest standard deviation of a number, from input to input of answers (N, ...)."""
    return max(float(one.std(dim=0).max()) for one in answers)


def alike(got: Tensor, expected: Tensor, slack: float) -> bool:
    """Whether answers are the same to rounding."""
    return got.shape == expected.shape and bool(((got - expected).abs() <= slack).all())


def _require_comparable(network: nn.Module, answers: Sequence[object]) -> None:
    for count, one in zip(PROBES, answers, strict=True):
        if not isinstance(one, Tensor) or one.shape[:1] != (count,) or not one.is_floating_point():
            what = tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__
            raise BundleError(f"{_kind(network)} gives {what} for {count} inputs")
    tensors = [one for one in answers if isinstance(one, Tensor)]
    # Not the other way round: with NaN no comparison is true.
    if not 0 < spread_of(tensors) < float("inf"):
        raise BundleError(_not_comparable(network))
    if spread_of(tensors) < LEAST_SPREAD * _size_of(tensors):
        raise BundleError(_not_comparable(network))


def _not_comparable(network: nn.Module) -> str:
    return (
        f"{_kind(network)} gives the same answer to all random inputs, or what is not finite: "
        "whether it computes the same once it is cut could not be seen (is it trained?)"
    )


def _size_of(answers: Sequence[Tensor]) -> float:
    return max(float(one.abs().max()) for one in answers)


def _kind(network: nn.Module) -> str:
    return type(network).__name__


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
