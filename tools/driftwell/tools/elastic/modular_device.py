"""One device of the method `driftwell`: it asks for modules, runs them, and learns with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from driftwell.cloud.modular.catalogue import Address, Catalogue, Update
from driftwell.cloud.modular.importance import Importance
from driftwell.messages.errors import BundleError
from driftwell.messages.images import Pixels
from driftwell.models.footprint import Footprint, measure_footprint
from driftwell.models.modular.decomposition import derive
from driftwell.models.modular.module_layer import first_layer, second_layer
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module
from driftwell.models.network import Preparation
from driftwell.models.normalisation import is_normalisation
from driftwell.tools.elastic.samples import Numbers, Samples
from driftwell.tools.elastic.training import Effort, predict, train
from driftwell.tools.elastic.weights import State, install, state_of


@dataclass(frozen=True, slots=True)
class Learned:
    """What a device sends of one module."""

    address: Address
    update: Update
    size_bytes: int


class ModularDevice:
    """A sub-model, the versions of the modules it was made of, and a head of its own."""

    def __init__(self, smallest: ModularNetwork, prepare: Preparation) -> None:
        """Begin with the smallest sub-model; its trunk and selector stay."""
        self._network = smallest
        self._prepare = prepare
        self._versions: dict[Address, int] = {}
        """Of all modules it has fetched; those it does not run now are kept on its disk."""
        self._head: State | None = None

    def fetch_bytes(self, catalogue: Catalogue) -> list[NDArray[np.float64]]:
        """What it would fetch to run each module of the whole model, for each layer (modules,)."""
        return [
            np.array(
                [
                    catalogue.fetch_bytes((layer, module), self._versions.get((layer, module)))
                    for module in range(place.total)
                ],
                np.float64,
            )
            for layer, place in enumerate(self._network.places)
        ]

    def importance(self, samples: Samples) -> Importance:
        """How much its data use each module: all it tells the cloud of them."""
        with torch.inference_mode():
            inputs = self._prepare(samples.images)
            return [layer.double().numpy() for layer in self._network.importance(inputs)]

    def take(self, whole: ModularNetwork, chosen: Sequence[frozenset[int]]) -> None:
        """Run other modules from now on, in the versions that the whole model has; its own head."""
        self._network = derive(whole, [sorted(layer) for layer in chosen])
        if self._head is not None:
            install(_head_of(self._network), self._head)

    def fetch(self, catalogue: Catalogue) -> int:
        """Fetch the newest versions of the modules it runs; bytes on the link."""
        fetched = 0
        for address in self._addresses():
            fetched += catalogue.fetch_bytes(address, self._versions.get(address))
            self._versions[address] = catalogue.version(address)
        return fetched

    def learn(self, samples: Samples, effort: Effort, *, seed: Sequence[int]) -> None:
        """Train the modules and the head; trunk and selector stay as they are."""
        network = self._network
        learning = [*_head_of(network).parameters()]
        for place in network.places:
            learning += first_layer(network.trunk, place).parameters()
            learning.append(second_layer(network.trunk, place).layer.get_parameter("weight"))
            if place.norm is not None:
                learning += network.trunk.get_submodule(place.norm).parameters()
        train(
            network, samples, self._prepare, effort, seed=seed,
            learning=learning, still=[network.selector, *_norms_of_trunk(network)],
        )  # fmt: skip
        self._head = state_of(_head_of(network))

    def report(self, catalogue: Catalogue, importance: Importance) -> list[Learned]:
        """What each module has learned since it was fetched."""
        told = []
        for address in self._addresses():
            arrays = read_module(self._network, *address)
            if arrays:
                layer, module = address
                weight = float(importance[layer][module])
                base = self._versions[address]
                told.append(Learned(address, *catalogue.update(address, base, arrays, weight)))
        return told

    def answer(self, images: Pixels) -> Numbers:
        """Classes (N,) of uint8 images (N, H, W, C)."""
        return predict(self._network, images, self._prepare)

    def footprint(self, shape: tuple[int, int, int]) -> Footprint:
        """Of what it runs, measured."""
        return measure_footprint(self._network, shape)

    def _addresses(self) -> list[Address]:
        return [(layer, module) for layer, held in enumerate(self._network.held) for module in held]


def _head_of(network: ModularNetwork) -> nn.Linear:
    """The trunk's last linear layer that is no module's: what tells classes apart."""
    of_modules = {
        id(layer)
        for place in network.places
        for layer in (first_layer(network.trunk, place), second_layer(network.trunk, place).layer)
    }
    heads = [
        layer
        for layer in network.trunk.modules()
        if isinstance(layer, nn.Linear) and id(layer) not in of_modules
    ]
    if not heads:
        raise BundleError("the network has no linear layer of its own that tells classes apart")
    return heads[-1]


def _norms_of_trunk(network: ModularNetwork) -> list[nn.Module]:
    """Normalisation layers that are no module's: their statistics are the cloud's, too."""
    of_modules = {place.norm for place in network.places}
    return [
        layer
        for name, layer in network.trunk.named_modules()
        if is_normalisation(layer) and name not in of_modules
    ]
