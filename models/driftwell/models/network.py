"""A bundle's network at work: uint8 images in, logits out, adaptable state in and out.

Forward only: no gradient is ever kept here. `install` is whole or nothing, and the
caller decides when, so it never happens inside a forward pass.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.messages.delta import AdaptableState
from driftwell.messages.errors import ArrayError
from driftwell.messages.images import Pixels
from driftwell.models.design_effect import DesignEffect
from driftwell.models.nearness import worth
from driftwell.models.normalisation import Scope, adaptable_tensors, batch_norms
from driftwell.models.own_statistics import (
    Average,
    OwnStatistics,
    batch_moments,
    follow_own_statistics,
)
from driftwell.models.preprocessing import Preprocessing
from driftwell.models.statistics import StatisticsSettings
from driftwell.models.stem import find_stem

MIN_BATCH_FOR_STATISTICS: Final = 16
"""Below this many images a batch's own statistics say less than the source's."""

WEIGHING_IMAGES: Final = 32
"""Images after which it is seen anew what own statistics are to be weighed against."""

Logits = NDArray[np.float32]
Moments = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Mean and variance by channel, each (C,)."""


class Preparation:
    """From pixels to a network's input."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        scale, shift = preprocessing.as_affine()
        self._scale, self._shift = torch.from_numpy(scale), torch.from_numpy(shift)

    def __call__(self, images: Pixels) -> Tensor:
        """uint8 (N, H, W, C) -> float32 (N, C, H, W), laid out channels last: no transposition."""
        pixels = torch.from_numpy(np.array(images))  # a copy: arrays off the wire are read-only
        return (pixels * self._scale + self._shift).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """What a network with own statistics has made of its stream."""

    held: tuple[tuple[int, ...], ...]
    averages: tuple[Average, ...]
    runs: DesignEffect


class Network:
    """A torch module with its preprocessing, in evaluation mode."""

    def __init__(
        self,
        module: nn.Module,
        preprocessing: Preprocessing,
        *,
        scope: Scope = "normalisation",
        own_statistics: StatisticsSettings | None = None,
        bfloat16: bool = False,
    ) -> None:
        """Take over a module, which is the network's own from here on.

        Args:
            module: With its weights, the source state among them.
            preprocessing: Of its images.
            scope: Which of its arrays may adapt.
            own_statistics: How BatchNorm follows the images that pass; None: it does not.
            bfloat16: Whether it multiplies in bfloat16: about twice as fast where the processor
                can, slower where not. Statistics and logits are float32 all the same.

        Raises:
            BundleError: if its arrays may not adapt (`normalisation.adaptable_tensors`).
        """
        module.eval()
        self.module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._prepare = Preparation(preprocessing)
        self._bfloat16 = bfloat16
        self._scope = scope
        self._adaptable = adaptable_tensors(module, scope)
        self.own_layers: tuple[OwnStatistics, ...] = ()
        """The layers that follow the stream; none: it does not."""
        self._first: OwnStatistics | None = None
        """The layer that the forward pass comes to first."""
        self._stem: nn.Sequential | None = None
        self._runs: DesignEffect | None = None
        self._counts_runs = False
        self._since_weighed = 0
        self._shown: Tensor | None = None
        """What the last batch looked like to the network, where `_stem` is to look again."""
        if own_statistics is not None:
            self.own_layers = follow_own_statistics(module, own_statistics)
            self._runs = DesignEffect()
            self._counts_runs = own_statistics.design_effect
            self._hooks = [
                layer.register_forward_hook(self._note_first) for layer in self.own_layers
            ]

    def logits(self, images: Pixels) -> Logits:
        """Run one forward pass: uint8 (N, H, W, C) -> float32 (N, classes).

        With own statistics, each layer's average first takes the batch in.
        """
        inference = torch.inference_mode()
        with inference, torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            inputs = self._prepare(images)
            output: Tensor = self.module(inputs)
        if self._stem is not None:
            self._shown = inputs
        logits: Logits = output.float().numpy()
        if self._runs is not None and len(logits):
            self._runs.take_in(logits)
            for layer in self.own_layers if self._counts_runs else ():
                layer.design_effect = self._runs.value
            self._since_weighed += len(logits)
            if self._since_weighed >= WEIGHING_IMAGES:
                self._weigh_prior()
        return logits

    @property
    def design_effect(self) -> float:
        """How many of the newest images are worth one; 1 without own statistics."""
        return self._runs.value if self._runs is not None else 1.0

    def logits_measuring_statistics(self, images: Pixels) -> Logits:
        """The same pass, with each BatchNorm normalising by, and keeping, this batch's statistics.

        How the official CEMA code starts a stream: the source statistics give way to those
        of the first test batch. Not for batches under MIN_BATCH_FOR_STATISTICS images, and
        not for a network with own statistics, to which it is `logits`.
        """
        layers = list(batch_norms(self.module))
        momenta = [layer.momentum for layer in layers]
        try:
            for layer in layers:
                layer.momentum = 1.0
                layer.train()
            return self.logits(images)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
                layer.eval()

    def keep_stem(self, images: Pixels) -> None:
        """Measure signatures from now on with what lies in front of the first BatchNorm layer now.

        For networks whose versions may change that. `images`, uint8 (N, H, W, C), not all
        alike, show what it is. Where it is no chain of layers everything stays as it was.
        """
        self._stem = find_stem(self.module, self._prepare(images))
        self.restart_statistics()

    @property
    def has_fixed_signatures(self) -> bool:
        """Whether no version can change what images look like to `signature`."""
        return self._scope == "normalisation" or self._stem is not None

    def signature(self) -> Moments | None:
        """What the last batch looked like to the first BatchNorm layer it passed.

        Returns:
            Copies of mean and variance, float32 (C,); None: no batch since the last restart,
            it was not finite, or the network does not follow its own statistics.
        """
        if self._first is None or self._first.moments is None:
            return None
        moments = self._first.moments
        if self._stem is not None and self._shown is not None:
            with torch.inference_mode():
                seen = batch_moments(self._stem(self._shown))
            if seen is None:
                return None
            moments = seen
        mean, variance = moments.copy()
        return mean, variance

    def restart_statistics(self, *, elsewhere: bool = False) -> None:
        """Forget the own statistics: the next batch meets the installed state's alone.

        Args:
            elsewhere: Whether those were measured in another domain than the present one, so
                that they are worth no more than the source's.
        """
        self._since_weighed = 0
        for layer in self.own_layers:
            layer.restart(elsewhere=elsewhere)
        if elsewhere and self._runs is not None:
            self._runs.restart()

    @property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """For each module layer the modules it holds; none where the network is in one piece."""
        return ()

    @property
    def followed(self) -> "Followed | None":
        """What it has made of its own stream; None: it does not follow it."""
        if self._runs is None:
            return None
        return Followed(self.held, tuple(layer.average for layer in self.own_layers), self._runs)

    def resume(self, followed: "Followed | None") -> None:
        """Go on with what a network of the same modules in other versions has made of the stream.

        Where that held other modules nothing happens: their statistics are not its own.
        """
        if followed is None or self._runs is None or self.held != followed.held:
            return
        for layer, average in zip(self.own_layers, followed.averages, strict=True):
            layer.resume(average)
        self._runs = followed.runs
        self._weigh_prior()

    def state(self) -> dict[str, NDArray[np.float32]]:
        """A copy of the adaptable state, in the bundle's order."""
        return {name: tensor.detach().numpy().copy() for name, tensor in self._adaptable.items()}

    def install(self, state: AdaptableState) -> None:
        """Put a whole adaptable state in place; a state that does not fit changes nothing.

        Own statistics start again: those of before are of other weights.

        Raises:
            ArrayError: if names, shapes or dtypes are not exactly the network's.
        """
        if state.keys() != self._adaptable.keys():
            raise ArrayError("the state does not hold exactly the adaptable arrays")
        for name, tensor in self._adaptable.items():
            array = state[name]
            if array.shape != tuple(tensor.shape) or array.dtype != np.float32:
                raise ArrayError(f"array {name!r} is {array.dtype} {array.shape}")
        with torch.no_grad():
            for name, tensor in self._adaptable.items():
                tensor.copy_(torch.from_numpy(np.array(state[name])))
        self.restart_statistics()

    def _weigh_prior(self) -> None:
        """See what the prior is worth from the next batch on."""
        self._since_weighed = 0
        share = max((layer.share for layer in self.own_layers), default=0.0)
        found = worth([layer.squared_distance for layer in self.own_layers], share)
        for layer in self.own_layers:
            layer.prior_worth = found

    def _note_first(self, layer: nn.Module, _inputs: object, _output: object) -> None:
        # The order of modules is not the order of the forward pass: the first pass shows it.
        if self._first is None and isinstance(layer, OwnStatistics):
            self._first = layer
            for other in self.own_layers:  # the first is needed for the signature
                other.every_batch = other is layer
        for hook in self._hooks:
            hook.remove()
