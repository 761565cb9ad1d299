"""What a method of the elastic bench is, and the trained network that all of them start from."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Protocol

import torch
from torch import nn

from driftwell.messages.images import Pixels
from driftwell.models.footprint import Footprint
from driftwell.models.network import Preparation
from driftwell.tools.elastic.problems import Problem
from driftwell.tools.elastic.samples import Numbers, Samples
from driftwell.tools.elastic.training import train
from driftwell.tools.elastic.weights import State, install, state_of
from driftwell.tools.elastic.world import World

PRETRAINING: Final = 3
"""Second number of its seeds; `world` has those below, methods those above."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one adaptation step, all devices together."""

    up: int
    down: int


class Method(Protocol):
    """Serves a fleet. What it answers follows from world, seed and pre-trained network."""

    name: str

    def prepare(self) -> None:
        """Do what is done in the cloud beforehand, with the proxy data; once, before all else."""

    def step(self, number: int) -> Traffic:
        """Do one adaptation step of the fleet, with `world.devices[d].steps[number]`, in order.

        A download counts in the step that needs it. So the answers after the last step
        may be those of a model whose download no step has counted.
        """

    def answer(self, device: int, images: Pixels) -> Numbers:
        """What a device predicts now: uint8 (N, H, W, C) -> classes int64 (N,)."""

    def footprint(self, device: int) -> Footprint:
        """Of the network that a device runs now."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """The full network after training on the proxy data."""

    problem: Problem
    state: State
    """Not to be written to: all methods share it."""
    made: dict[Hashable, State] = field(default_factory=dict)
    """What methods made of it in the cloud, by all that decides it: a fleet with another skew
    begins with the same, and need not wait for it again."""

    @property
    def preparation(self) -> Preparation:
        """From pixels to the network's input."""
        return Preparation(self.problem.preprocessing)

    def module(self) -> nn.Module:
        """A copy of the network, in evaluation mode."""
        module = untrained(self.problem, 1.0, seed=0)
        install(module, self.state)
        return module.eval()


MakeMethod = Callable[[World, int, Pretrained], Method]
"""From a world, the seed of the method's own draws, and what all methods start from."""


def untrained(problem: Problem, width: float, *, seed: int) -> nn.Module:
    """A network with first weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return problem.network(width)


def pretrain(problem: Problem, proxy: Samples, *, seed: int) -> Pretrained:
    """Train the full network on the proxy data."""
    module = untrained(problem, 1.0, seed=seed)
    prepare = Preparation(problem.preprocessing)
    train(module, proxy, prepare, problem.pretraining, seed=[seed, PRETRAINING])
    return Pretrained(problem, state_of(module))
