"""HeteroFL (Diao et al., ICLR 2021): a network of each device's own width, all in one.

A device runs the leading channels of the full network, as many as its memory takes. Each
parameter is averaged over the devices that hold it, by their samples. As in the paper:

- Masked cross-entropy: in training, the logits of classes that a device has no sample of are 0;
  and its rows of the head are averaged for its own classes only.
- Static BatchNorm: in training a layer uses the statistics of the batch. After averaging, all
  devices are asked for their samples' statistics in the new network; here for each width, as
  a layer with fewer inputs has others. What goes up for it counts. That a narrow device would
  have to download the wider networks for it does not count, in this method's favour: with
  the statistics of its own width's devices alone it loses about ten points on the digits.

Not as in the paper:

- Before the run the cloud trains all widths together on the proxy data, one drawn for
  each batch, with the effort of the pre-training. In the paper all widths learn from the first
  round on; here all methods start from the same trained network, whose leading channels alone
  know nothing.
- No scaling of what a narrow layer gives in training: in front of BatchNorm that changes
  nothing, and every layer but the head is followed by one.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from torch import nn

from driftwell.messages.images import Pixels
from driftwell.models.footprint import Footprint, Yardstick, measure_footprint, measure_peak_bytes
from driftwell.models.training import Effort
from driftwell.tools.elastic.baselines import HETEROFL_DRAWS
from driftwell.tools.elastic.method import Pretrained, Traffic, untrained
from driftwell.tools.elastic.nested import (
    Update,
    averaged,
    cut,
    head_names,
    masked_loss,
    parameters_of,
    settle_statistics,
    statistics_bytes,
    train_nested,
)
from driftwell.tools.elastic.problems import Problem
from driftwell.tools.elastic.samples import Numbers, Samples
from driftwell.tools.elastic.training import predict, train
from driftwell.tools.elastic.weights import install, state_of, weight_bytes
from driftwell.tools.elastic.world import World

LOCAL: Final = Effort(epochs=3, rate=0.001, batch=16)
"""Of 0.001 and 0.0003 the better one on CIFAR-10, and as good on the digits."""
WIDTHS: Final = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0625)
"""Finer than the paper's halves, so that no device has to leave half of its memory unused."""


class HeteroFL:
    """Nested networks by width; the widest that fits a device's memory."""

    name = "heterofl"

    def __init__(self, world: World, seed: int, pretrained: Pretrained) -> None:
        self._world = world
        self._seed = seed
        self._prepare = pretrained.preparation
        self._made = pretrained.made
        problem = world.problem
        budgets = [device.budget.memory_bytes for device in world.devices]
        self._widths = fitting_widths(problem, budgets)
        self._modules = {
            width: untrained(problem, width, seed=0) for width in sorted(set(self._widths))
        }
        full = pretrained.module()
        self._head = head_names(full)
        self._shared = parameters_of(full, pretrained.state)
        yardstick = Yardstick(full, world.full.latency_ms)
        self._footprints = {
            # The full network's is what the budgets are shares of: not measured a second time.
            width: world.full
            if width == 1
            else measure_footprint(module, problem.shape, yardstick=yardstick)
            for width, module in self._modules.items()
        }

    def prepare(self) -> None:
        """Train all widths of the fleet together on the proxy data."""
        problem, proxy = self._world.problem, self._world.proxy
        source = np.random.default_rng([self._seed, HETEROFL_DRAWS])
        key = (self.name, self._seed, *self._modules)
        if key not in self._made:
            self._made[key] = train_nested(
                self._shared, list(self._modules.values()), problem, proxy, source
            )
        self._shared = self._made[key]
        for module in self._modules.values():
            self._hand_out(module, [proxy])

    def step(self, number: int) -> Traffic:
        """Send each device its network, train it there for 3 epochs, and average."""
        updates = []
        up = down = 0
        for place, (device, width) in enumerate(
            zip(self._world.devices, self._widths, strict=True)
        ):
            module, own = self._modules[width], device.steps[number]
            given = state_of(module)
            seed = [self._seed, HETEROFL_DRAWS, 1 + number, place]
            loss = masked_loss(device.classes, self._world.problem.classes)
            train(module, own, self._prepare, LOCAL, seed=seed, loss=loss)
            trained = parameters_of(module)
            updates.append(Update(trained, device.classes, len(own)))
            up += weight_bytes(trained)
            down += weight_bytes(given)
            install(module, given)
        self._shared = averaged(self._shared, updates, self._head)
        seen = [device.steps[number] for device in self._world.devices]
        for module in self._modules.values():
            self._hand_out(module, seen)
            up += len(seen) * statistics_bytes(module)
        return Traffic(up=up, down=down)

    def answer(self, device: int, images: Pixels) -> Numbers:
        """As the network of the device's width does."""
        return predict(self._modules[self._widths[device]], images, self._prepare)

    def footprint(self, device: int) -> Footprint:
        """Of the network of the device's width."""
        return self._footprints[self._widths[device]]

    def _hand_out(self, module: nn.Module, seen: Sequence[Samples]) -> None:
        install(module, {**state_of(module), **cut(self._shared, parameters_of(module))})
        settle_statistics(module, seen, self._prepare)


def fitting_widths(problem: Problem, budgets: Sequence[int]) -> list[float]:
    """The widest network for each limit in bytes; where none fits, the narrowest."""
    peaks = {
        width: measure_peak_bytes(untrained(problem, width, seed=0), problem.shape)
        for width in WIDTHS
    }
    return [
        next((width for width in WIDTHS if peaks[width] <= budget), WIDTHS[-1])
        for budget in budgets
    ]
