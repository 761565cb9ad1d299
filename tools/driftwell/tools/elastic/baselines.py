"""Baselines in which every device runs the full network.

- `none`: the pre-trained network as it is.
- `local`: each device trains a copy of its own on its own labelled data.
- `fedavg`: all devices train the same network, whose weights are averaged (FedAvg, McMahan et
  al., AISTATS 2017).

Epochs and batch are those that Nebula's authors gave their baselines (ICPP 2024): 10 epochs on
a device alone, 3 in a federation. Their rate is 0.001; their optimizer is not named, ours is
Adam. Where another rate served a baseline better here, it has that one.
"""

from typing import Final

from torch import nn

from driftwell.messages.images import Pixels
from driftwell.models.footprint import Footprint
from driftwell.models.modular.prior import log_prior
from driftwell.models.training import Effort, Prior
from driftwell.tools.elastic.method import Pretrained, Traffic
from driftwell.tools.elastic.samples import Numbers
from driftwell.tools.elastic.training import predict, train
from driftwell.tools.elastic.weights import install, state_of, weight_bytes, weighted_mean
from driftwell.tools.elastic.world import World

ALONE: Final = Effort(epochs=10, rate=0.001, batch=16)
FEDERATED: Final = Effort(epochs=3, rate=0.0001, batch=16)
"""Of 0.001, 0.0003 and 0.0001 the best on CIFAR-10 at two classes a device, where the average
forgets at once with the others; on the digits it is 0.2 points below 0.0003."""
ALONE_PRIOR: Final = Effort(epochs=10, rate=0.0003, batch=16)
FEDERATED_PRIOR: Final = Effort(epochs=3, rate=0.0003, batch=16)
LOCAL_DRAWS, FEDAVG_DRAWS, HETEROFL_DRAWS = 4, 5, 6
"""Second numbers of the seeds of each method's draws."""


class _OnFullNetwork:
    """What the three have in common: each device runs the full network, and nothing is prepared."""

    knows_classes = False
    """Whether a device adds the log of its classes' shares to its logits, as `driftwell` does."""

    def __init__(self, world: World, seed: int, pretrained: Pretrained) -> None:
        self._world = world
        self._seed = seed
        self._pretrained = pretrained

        self._priors: list[Prior | None] = [None for _ in world.devices]

    def prepare(self) -> None:
        """Nothing."""

    def _see(self, number: int) -> None:
        """Let every device count its labels of a step."""
        if self.knows_classes:
            classes = self._world.problem.classes
            labels = [device.steps[number].labels for device in self._world.devices]
            self._priors = [log_prior(own, classes) for own in labels]

    def footprint(self, device: int) -> Footprint:
        """Of the full network."""
        del device
        return self._world.full


class NoAdaptation(_OnFullNetwork):
    """The full pre-trained network on every device."""

    name = "none"

    def __init__(self, world: World, seed: int, pretrained: Pretrained) -> None:
        super().__init__(world, seed, pretrained)
        self._module = pretrained.module()

    def step(self, number: int) -> Traffic:
        """Nothing but the first download."""
        self._see(number)
        return first_download(self._world, self._pretrained, number)

    def answer(self, device: int, images: Pixels) -> Numbers:
        """As the pre-trained network does."""
        return predict(self._module, images, self._pretrained.preparation, self._priors[device])


class LocalAdaptation(_OnFullNetwork):
    """Each device trains its own copy, which it goes on with in the next step."""

    name = "local"
    effort = ALONE

    def __init__(self, world: World, seed: int, pretrained: Pretrained) -> None:
        super().__init__(world, seed, pretrained)
        self._modules: list[nn.Module] = [pretrained.module() for _ in world.devices]

    def step(self, number: int) -> Traffic:
        """Train every device for 10 epochs; nothing travels but the first download."""
        self._see(number)
        for place, (device, module) in enumerate(
            zip(self._world.devices, self._modules, strict=True)
        ):
            seed = [self._seed, LOCAL_DRAWS, number, place]
            train(
                module, device.steps[number], self._pretrained.preparation, self.effort,
                seed=seed, prior=self._priors[place],
            )  # fmt: skip
        return first_download(self._world, self._pretrained, number)

    def answer(self, device: int, images: Pixels) -> Numbers:
        """As the device's own copy does."""
        prepare = self._pretrained.preparation
        return predict(self._modules[device], images, prepare, self._priors[device])


class FedAvg(_OnFullNetwork):
    """One network for all, averaged over the devices by their samples, BatchNorm's too."""

    name = "fedavg"
    effort = FEDERATED

    def __init__(self, world: World, seed: int, pretrained: Pretrained) -> None:
        super().__init__(world, seed, pretrained)
        self._module = pretrained.module()

    def step(self, number: int) -> Traffic:
        """Send the network to every device, train it there for 3 epochs, and average."""
        self._see(number)
        devices = self._world.devices
        given = state_of(self._module)
        states, sizes = [], []
        for place, device in enumerate(devices):
            install(self._module, given)
            own = device.steps[number]
            seed = [self._seed, FEDAVG_DRAWS, number, place]
            train(
                self._module, own, self._pretrained.preparation, self.effort,
                seed=seed, prior=self._priors[place],
            )  # fmt: skip
            states.append(state_of(self._module))
            sizes.append(float(len(own)))
        install(self._module, weighted_mean(states, sizes))
        each = weight_bytes(given) * len(devices)
        return Traffic(up=each, down=each)

    def answer(self, device: int, images: Pixels) -> Numbers:
        """As the averaged network does."""
        return predict(self._module, images, self._pretrained.preparation, self._priors[device])


class NoAdaptationPrior(NoAdaptation):
    """The same, and each device knows how often its classes are."""

    name = "none+prior"
    knows_classes = True


class LocalAdaptationPrior(LocalAdaptation):
    """The same, and each device knows how often its classes are."""

    name = "local+prior"
    knows_classes = True
    effort = ALONE_PRIOR


class FedAvgPrior(FedAvg):
    """The same, and each device knows how often its classes are."""

    name = "fedavg+prior"
    knows_classes = True
    effort = FEDERATED_PRIOR


def first_download(world: World, pretrained: Pretrained, number: int) -> Traffic:
    """Of the full network, once: in step 0."""
    down = weight_bytes(pretrained.state) * len(world.devices) if number == 0 else 0
    return Traffic(up=0, down=down)
