"""What adapts: a network's adaptable arrays, with their SGD momentum, in and out of a module.

Frozen weights stay in one module shared by all cohorts; a cohort is only the arrays of
an `AdaptedState`, put in before a step and taken out after it.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.cloud.renormalisation import renormalise
from driftwell.messages.errors import BundleError
from driftwell.models.bundle import Bundle
from driftwell.models.network import Preparation
from driftwell.models.normalisation import affine_names

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class AdaptedState:
    """One network's adaptable arrays, and what its learner needs besides."""

    arrays: Arrays
    learning: Arrays
    """By learner: `momentum/NAME` of CEMA's SGD; weights, their average and Adam's moments."""
    is_fresh: bool = False
    """Whether it has seen no batch yet: the first one sets its statistics."""


class AdaptableNetwork:
    """A module with everything frozen but its normalisation layers' weight and bias."""

    def __init__(
        self, bundle: Bundle, *, learning_rate: float, momentum: float, statistics_momentum: float
    ) -> None:
        module = bundle.module()
        learned = affine_names(module)  # while the BatchNorm layers are still torch's own
        self._layers = renormalise(module, statistics_momentum)
        self._module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prepare = Preparation(bundle.manifest.preprocessing)
        self._collect(module, bundle.source, learned)
        if not self._learned:
            raise BundleError(
                f"{bundle.path}: no normalisation layer has a weight or bias to learn"
            )
        self._optimizer = torch.optim.SGD(self._learned.values(), learning_rate, momentum)
        arrays = {name: array.copy() for name, array in bundle.source.items()}
        self.source = AdaptedState(arrays, {}, is_fresh=True)

    def _collect(self, module: nn.Module, names: Iterable[str], learned: Container[str]) -> None:
        """Find the live tensors; of those, only `learned` ever get a gradient."""
        named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self._tensors = {name: named[name] for name in names}
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        self._learned: dict[str, Tensor] = {
            name: tensor.requires_grad_(True)
            for name, tensor in self._tensors.items()
            if name in learned
        }

    def load(self, state: AdaptedState) -> None:
        """Put a cohort's state in; if it is fresh, the next batch sets the statistics."""
        with torch.no_grad():
            for name, tensor in self._tensors.items():
                tensor.copy_(torch.from_numpy(state.arrays[name]))
        for name, parameter in self._learned.items():
            if f"momentum/{name}" in state.learning:
                buffer = torch.from_numpy(state.learning[f"momentum/{name}"].copy())
                self._optimizer.state[parameter] = {"momentum_buffer": buffer}
            else:
                self._optimizer.state.pop(parameter, None)
        for layer in self._layers:
            layer.is_fresh = state.is_fresh

    def save(self) -> AdaptedState:
        """Take a copy of the present state out."""
        arrays = {name: t.detach().numpy().copy() for name, t in self._tensors.items()}
        momentum = {
            f"momentum/{name}": self._optimizer.state[parameter]["momentum_buffer"].numpy().copy()
            for name, parameter in self._learned.items()
            if parameter in self._optimizer.state
        }
        return AdaptedState(arrays, momentum)

    def train(self, inputs: Tensor) -> Tensor:
        """Logits (N, classes) with gradients; statistics move."""
        self._module.train()
        logits: Tensor = self._module(inputs)
        return logits

    def predict(self, inputs: Tensor) -> Tensor:
        """Logits (N, classes) without gradients; nothing moves."""
        self._module.eval()
        with torch.no_grad():
            logits: Tensor = self._module(inputs)
        return logits

    def step(self, loss: Tensor) -> None:
        """One SGD step down the loss."""
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
