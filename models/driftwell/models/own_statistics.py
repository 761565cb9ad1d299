"""BatchNorm by the statistics of the own stream, with those of the network as a prior.

Each layer keeps an exponential average of mean and variance over the images it has seen,
the present batch included. With n images behind it, and a prior worth N images
(Schneider et al., NeurIPS 2020, section 3), the layer normalises by

    mean = (1 - s) prior_mean + s own_mean,   variance likewise,   s = (n/d) / (n/d + N)

where d, the design effect, is 1 unless images come in runs (`models.design_effect`). Where they do,
at d of 2 or more, the newest images, up to 64, wait before they are taken in: they are of the run
that is being answered, and normalising a class by itself takes away what tells it from others.
And N grows while the own statistics are near the source's, which are the prior (`models.nearness`).

So a single image moves little, and any batch size is right. Forward only.

Measuring a batch costs more than all else here. An average that has settled, and of whose images
none wait, takes in two batches of four, each as two: it follows as fast. They are neighbours, so
that of two cameras in turn both are seen.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from driftwell.models.nearness import squared_distance
from driftwell.models.statistics import StatisticsSettings

__all__ = ["OwnStatistics", "StatisticsSettings", "batch_moments", "follow_own_statistics"]

IMAGE_AXES: Final = 2
FULL_MAP: Final = 64
"""Pixels of a feature map up to which all count."""
MANY_PIXELS: Final = 16_384
"""Pixels a channel, over all images, from which a fourth counts, and an eighth from four times
as many. Neighbours say nearly the same, and reading all of them is most of the cost."""
RUNS: Final = 2.0
"""Design effect from which the newest images wait: random order stays below it."""
WAITING: Final = 64
"""Images that wait at most, and a batch; most runs are longer."""
SETTLED: Final = 512.0
"""Images behind an average from which on only some batches are measured."""
ROUND: Final = 4
MEASURED: Final = (1, 2)
"""Which of a round of so many batches are."""
MAX_SQUARE: Final = 1e37
"""Largest sum of squares of a batch's means and variances that counts as finite: what is
computed from them then is, too, in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """What a layer has made of its own stream; the fields are those of `OwnStatistics`."""

    own: NDArray[np.float32]
    images: float
    weight: float
    waiting: tuple[NDArray[np.float32], int] | None
    design_effect: float


class OwnStatistics(nn.Module):
    """Stands in for a BatchNorm layer of any dimension, with its very arrays under their names.

    `running_mean` and `running_var`, float32 (C,), are the prior. They never move by
    themselves; whoever writes into them calls `restart`. It works on the CPU.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, layer: _BatchNorm, settings: StatisticsSettings) -> None:
        super().__init__()
        if layer.running_mean is None or layer.running_var is None:
            raise ValueError("the layer keeps no running statistics")
        self.register_parameter("weight", layer.weight)
        self.register_parameter("bias", layer.bias)
        self.register_buffer("running_mean", layer.running_mean)
        self.register_buffer("running_var", layer.running_var)
        self.eps = layer.eps
        self.settings = settings
        self._source = self._installed()
        # The small arithmetic is numpy's, on both moments at once: its calls cost less.
        self.own = np.zeros_like(self._source)
        """The average over the own stream, float32 (2, C): mean and variance."""
        self._used = np.empty_like(self._source)
        self._used_mean, self._used_variance = torch.from_numpy(self._used).unbind()
        self.design_effect = 1.0
        """Images that are worth one (`models.design_effect`)."""
        self.prior_worth = 1.0
        """How many times as much as its images the prior is worth (`models.nearness`)."""
        self.every_batch = True
        """Whether `moments` are wanted of each batch, also when the average has settled."""
        self.restart()

    def restart(self, *, elsewhere: bool = False) -> None:
        """Forget the own average, and see what the prior is worth.

        The source's statistics are worth `prior_images`, any others `version_images`: they
        are of the present domain, unless they were measured `elsewhere`.
        """
        self.moments: NDArray[np.float32] | None = None
        """Mean and variance of the last batch, (2, C); None: not measured, or not finite."""
        self.images = 0.0
        """Images behind the own average, less than 1 / rate and a batch."""
        self._weight = 0.0
        self.own.fill(0)
        self._waiting: tuple[NDArray[np.float32], int] | None = None
        """Moments (2, C) of the newest images that are not in the average, and their number."""
        self._turn = 0
        """Of the next batch in a round."""
        self._prior = self._installed()
        self._is_source = np.array_equal(self._prior, self._source)
        settings = self.settings
        is_far = self._is_source or elsewhere
        self._prior_images = settings.prior_images if is_far else settings.version_images
        self.prior_worth = 1.0

    @property
    def share(self) -> float:
        """What the average weighs beside the prior, 0 to 1."""
        counted = self.images / self.design_effect
        return counted / (counted + self._behind_prior) if counted else 0.0

    @property
    def squared_distance(self) -> float:
        """Between the average and the prior (`models.nearness`)."""
        return squared_distance(self.own, self._prior)

    @property
    def average(self) -> "Average":
        """The average as it is now; a copy."""
        waiting = None if self._waiting is None else (self._waiting[0].copy(), self._waiting[1])
        return Average(self.own.copy(), self.images, self._weight, waiting, self.design_effect)

    def resume(self, average: "Average") -> None:
        """Go on with the average of a layer whose weights were nearly these; the prior stays."""
        self.own[:] = average.own
        self.images, self._weight = average.images, average.weight
        self._waiting, self.design_effect = average.waiting, average.design_effect

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, ...) -> the same shape; the average takes the batch in, if it is finite."""
        self.moments = None
        weight = self._weight_of_turn()
        if weight and features.numel():
            self.moments = batch_moments(features.detach())
            if self.moments is not None:
                self._follow(self.moments, weight * len(features))
        share = self.share
        np.subtract(self.own, self._prior, out=self._used)
        self._used *= share
        self._used += self._prior
        return functional.batch_norm(
            features, self._used_mean, self._used_variance, self.weight, self.bias,
            training=False, eps=self.eps,
        )  # fmt: skip

    @property
    def _behind_prior(self) -> float:
        """Images that the prior is worth."""
        if not self._is_source:
            return self._prior_images
        raised = min(self.settings.home_images, self._prior_images * self.prior_worth)
        return max(self._prior_images, raised)

    def _weight_of_turn(self) -> int:
        """How often the images of this batch count; 0: it is not measured."""
        is_settled = self.images >= SETTLED and self._waiting is None and self.design_effect < RUNS
        if self.every_batch or not is_settled:
            self._turn = 0
            return 1
        turn, self._turn = self._turn, (self._turn + 1) % ROUND
        return ROUND // len(MEASURED) if turn in MEASURED else 0

    def _installed(self) -> NDArray[np.float32]:
        return np.stack([self.running_mean.numpy(), self.running_var.numpy()])

    def _follow(self, moments: NDArray[np.float32], count: int) -> None:
        """Take a batch in, or let it wait; what has waited long enough is taken in now."""
        if self._waiting is not None and (self._waiting[1] >= WAITING or self.design_effect < RUNS):
            self._take_in(*self._waiting)
            self._waiting = None
        if self.design_effect < RUNS or not self.images:  # the first batch has nothing but itself
            self._take_in(moments, count)
        elif self._waiting is None:
            self._waiting = moments.copy(), count
        else:
            waiting, before = self._waiting
            _merge(waiting, moments, count / (before + count))
            self._waiting = waiting, before + count

    def _take_in(self, moments: NDArray[np.float32], count: int) -> None:
        share = 1 - (1 - self.settings.rate) ** count
        # Without this weight the zeros of the start would count, as in Adam.
        self._weight += share * (1 - self._weight)
        self.images = (1 - share) * self.images + count
        step = share / self._weight
        if step == 1:  # the first batch, to the bit
            self.own[:] = moments
        else:
            _merge(self.own, moments, step)


def _merge(into: NDArray[np.float32], moments: NDArray[np.float32], share: float) -> None:
    """Merge moments, each (2, C), exactly: the spread between means is variance, too."""
    apart = moments - into
    into += share * apart
    between = apart[0]
    between *= between
    between *= share * (1 - share)
    into[1] += between


def follow_own_statistics(
    network: nn.Module, settings: StatisticsSettings
) -> tuple[OwnStatistics, ...]:
    """Replace every BatchNorm that keeps running statistics, in place; return the new layers."""
    replaced: dict[_BatchNorm, OwnStatistics] = {}
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and child.running_mean is not None:
                if child not in replaced:
                    replaced[child] = OwnStatistics(child, settings)
                setattr(parent, name, replaced[child])
    return tuple(replaced.values())


def batch_moments(features: Tensor) -> NDArray[np.float32] | None:
    """Mean and variance by channel, float32 (2, C), of (N, C, ...), N >= 1; None: not finite."""
    # 15 times faster than torch.var_mean where channels lie last.
    mean, variance = torch.batch_norm_update_stats(_thinned(features).float(), None, None, 0.0)
    moments = torch.cat((mean, variance))
    if not torch.dot(moments, moments).item() <= MAX_SQUARE:  # NaN fails, too
        return None
    return moments.numpy().reshape(2, -1)


def _thinned(features: Tensor) -> Tensor:
    """All of (N, C, ...), or a dense part of (N, C, H, W) with many pixels a channel.

    Of the part, each image gives every second column and every `step`-th row, and starts
    one further than the image before it. If all started with the first, one border of the map
    would count and not the other, and convolutions that go two steps at a time see even and
    odd pixels differently: that cost 0.7 points on CIFAR-10-C's elastic_transform.
    """
    count, _, *maps = features.shape
    pixels = count * math.prod(maps)
    if len(maps) != IMAGE_AXES or math.prod(maps) <= FULL_MAP or pixels < MANY_PIXELS:
        return features
    step = 2 if pixels < 4 * MANY_PIXELS else 4
    if count < step:
        return features
    height, width = maps[0] // step * step, maps[1] // 2 * 2
    return torch.cat([features[i::step, :, i:height:step, i % 2 : width : 2] for i in range(step)])
