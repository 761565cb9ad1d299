"""The edge model in training: its weights under Adam, and their running average.

The average is what devices get: it forgets what single batches did, and on few images it is
worth more than anything else here (benchmarks/ablation.md). Everything goes in and out as
arrays, so that all cohorts share one module.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from driftwell.cloud.adaptation import Arrays
from driftwell.messages.errors import BundleError
from driftwell.messages.images import Pixels
from driftwell.models.bundle import Bundle
from driftwell.models.network import Preparation
from driftwell.models.normalisation import affine_names, batch_norms

BETAS: Final = (0.9, 0.999)
_MOMENTS: Final = {"first": "exp_avg", "second": "exp_avg_sq"}


class Student:
    """A network whose weights learn, normalised by each training batch's own statistics."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        learning_rate: float,
        average: float,
        moves: str,
        bfloat16: bool = False,
    ) -> None:
        """Build the network.

        Args:
            bundle: Of the edge model.
            learning_rate: Of Adam.
            average: Share the running average keeps with each step, 0 to 1.
            moves: `all` weights that the bundle lets adapt, or only `normalisation`'s.
            bfloat16: Whether `learn` multiplies in bfloat16; weights stay float32.

        Raises:
            BundleError: if nothing is left that could learn.
        """
        module = bundle.module()
        normalisation = affine_names(module)
        self._module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prepare = Preparation(bundle.manifest.preprocessing)
        self._parameters = {
            name: parameter
            for name, parameter in self._module.named_parameters()
            if name in bundle.source and (moves == "all" or name in normalisation)
        }
        if not self._parameters:
            raise BundleError(f"{bundle.path}: none of its arrays can learn ({moves=})")
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad_(name in self._parameters)
        self._layers = _forget_running_statistics(self._module)
        self._adam = torch.optim.Adam(self._parameters.values(), learning_rate, BETAS)
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._keep = average
        self._bfloat16 = bfloat16

    def begin(self, arrays: Mapping[str, NDArray[np.float32]], learning: Arrays) -> None:
        """Put a cohort in.

        Args:
            arrays: Its newest version: where it learns from if `learning` is empty.
            learning: What `end` gave last time.
        """
        with torch.no_grad():
            for name, parameter in self._module.named_parameters():
                if name in arrays:
                    parameter.copy_(_tensor(arrays[name]))
            for name, parameter in self._parameters.items():
                self._average[name].copy_(_tensor(learning.get(f"average/{name}", arrays[name])))
                if f"weights/{name}" in learning:
                    parameter.copy_(_tensor(learning[f"weights/{name}"]))
        for name, parameter in self._parameters.items():
            self._adam.state.pop(parameter, None)
            if f"first/{name}" in learning:
                moments = {
                    torch_name: _tensor(learning[f"{ours}/{name}"]).clone(
                        memory_format=torch.preserve_format
                    )
                    for ours, torch_name in _MOMENTS.items()
                }
                self._adam.state[parameter] = {"step": _tensor(learning["adam/steps"]), **moments}

    def end(self) -> Arrays:
        """Take the cohort's learning state out: weights, their average, Adam's moments."""
        out = {f"average/{name}": _array(average) for name, average in self._average.items()}
        for name, parameter in self._parameters.items():
            out[f"weights/{name}"] = _array(parameter)
            state = self._adam.state.get(parameter)
            if state:
                out["adam/steps"] = _array(state["step"])
                out |= {
                    f"{ours}/{name}": _array(state[torch_name])
                    for ours, torch_name in _MOMENTS.items()
                }
        return out

    def learn(self, inputs: Tensor, targets: Tensor) -> float:
        """One step of Adam down the cross entropy with `targets` (N, C); its value, nats."""
        self._module.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            logits: Tensor = self._module(inputs).float()
        loss = -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                self._average[name].lerp_(parameter, 1 - self._keep)
        return loss.item()

    def averaged(
        self, arrays: Mapping[str, NDArray[np.float32]], images: Pixels, chunk: int
    ) -> Arrays:
        """What devices may get: averaged weights, and BatchNorm statistics measured with them.

        Args:
            arrays: Gives the names, their order, and the arrays that do not learn.
            images: uint8 (N, H, W, C), N >= 2, newest of the domain.
            chunk: Images measured together.
        """
        learned = {name: p.detach().clone() for name, p in self._parameters.items()}
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._average[name])
        measured = self._measure(images, chunk)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(learned[name])
        fresh = {**{name: _array(a) for name, a in self._average.items()}, **measured}
        return {name: fresh.get(name, array) for name, array in arrays.items()}

    def _measure(self, images: Pixels, chunk: int) -> Arrays:
        moments: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self._layers}
        handles = [
            layer.register_forward_pre_hook(_note_moments(moments[name]))
            for name, layer in self._layers.items()
        ]
        try:
            with torch.inference_mode():
                for start in range(0, len(images), chunk):
                    self._module(self.prepare(images[start : start + chunk]))
        finally:
            for handle in handles:
                handle.remove()
        measured: Arrays = {}
        for name, parts in moments.items():
            means = torch.stack([mean for mean, _ in parts])
            within = torch.stack([variance for _, variance in parts]).mean(dim=0)
            measured[f"{name}.running_mean"] = _array(means.mean(dim=0))
            measured[f"{name}.running_var"] = _array(within + means.var(dim=0, correction=0))
        return measured


def _forget_running_statistics(module: nn.Module) -> dict[str, _BatchNorm]:
    """Let every BatchNorm layer normalise by its batch; return them by name."""
    named = {id(layer): name for name, layer in module.named_modules()}
    layers: dict[str, _BatchNorm] = {named[id(layer)]: layer for layer in batch_norms(module)}
    for layer in layers.values():
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = None
    return layers


def _note_moments(
    parts: list[tuple[Tensor, Tensor]],
) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        axes = [axis for axis in range(inputs[0].dim()) if axis != 1]
        variance, mean = torch.var_mean(inputs[0], dim=axes, correction=0)
        parts.append((mean, variance))

    return hook


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(array))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().contiguous().numpy(), np.float32)
