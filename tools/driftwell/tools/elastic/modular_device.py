"""One device of the method `driftwell`: it asks for modules, runs them, and learns with them."""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from driftwell.cloud.modular.catalogue import Address, Catalogue, Update
from driftwell.cloud.modular.importance import Importance
from driftwell.messages.images import Pixels
from driftwell.models.footprint import Footprint, Yardstick, measure_footprint
from driftwell.models.modular.decomposition import derive
from driftwell.models.modular.learning import head_of, learn
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module
from driftwell.models.modular.prior import log_prior
from driftwell.models.network import Preparation
from driftwell.models.training import Effort, Prior
from driftwell.tools.elastic.nested import settle_statistics, statistics_bytes
from driftwell.tools.elastic.samples import Numbers, Samples
from driftwell.tools.elastic.training import predict
from driftwell.tools.elastic.weights import State, install, state_of


@dataclass(frozen=True, slots=True)
class Learned:
    """What a device sends of one module."""

    address: Address
    update: Update
    size_bytes: int


class ModularDevice:
    """A sub-model, the versions of the modules it was made of, and what it has learned of them."""

    def __init__(self, smallest: ModularNetwork, prepare: Preparation, classes: int) -> None:
        """Begin with the smallest sub-model; its trunk and selector stay."""
        self._network = smallest
        self._prepare = prepare
        self._classes = classes
        self._prior: Prior | None = None
        self._versions: dict[Address, int] = {}
        """Of all modules it has fetched; those it does not run now are kept on its disk."""
        self._head: State | None = None
        """Of its training."""
        self._trained: ModularNetwork | None = None
        """A copy of what it runs, after the training of this step."""

    @property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """For each layer the numbers of the modules it runs."""
        return self._network.held

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

    def take(self, whole: ModularNetwork, chosen: Sequence[Collection[int]]) -> None:
        """Run the cloud's newest versions of these modules, for each layer, from now on."""
        self._network = derive(whole, [sorted(layer) for layer in chosen])

    def fetch(self, catalogue: Catalogue) -> int:
        """Fetch the newest versions of the modules it runs; bytes on the link."""
        fetched = 0
        for address in self._addresses():
            fetched += catalogue.fetch_bytes(address, self._versions.get(address))
            self._versions[address] = catalogue.version(address)
        return fetched

    def settle(self, proxy: Samples) -> int:
        """Take normalisation statistics for the sub-model as it is now; bytes on the link.

        A module's statistics are those it had beside other modules. So the cloud lets proxy images
        pass, and sends what it finds (Yu and Huang, 2019, section 3.2).
        """
        settle_statistics(self._network, [proxy], self._prepare)
        return statistics_bytes(self._network)

    def learn(
        self, samples: Samples, effort: Effort, *, knows_classes: bool, seed: Sequence[int]
    ) -> None:
        """Train a copy of what it runs, as `edge.learning` does; without epochs nothing.

        Its classes' shares belong to the loss: so the logits stay those of somebody who knows
        nothing of them, and modules can be shared with devices that have other classes.
        """
        if knows_classes:
            self._prior = log_prior(samples.labels, self._classes)
        if not effort.epochs:
            return
        self._trained = copy.deepcopy(self._network)
        head = head_of(self._trained)
        if self._head is not None:
            install(head, self._head)
        learn(
            self._trained, samples.images, samples.labels, self._prepare, effort,
            seed=seed, prior=self._prior,
        )  # fmt: skip
        self._head = state_of(head)

    def report(self, catalogue: Catalogue, importance: Importance) -> list[Learned]:
        """What each module has learned since it was fetched; nothing if it was not trained."""
        told: list[Learned] = []
        if self._trained is None:
            return told
        for address in self._addresses():
            arrays = read_module(self._trained, *address)
            if arrays:
                layer, module = address
                weight = float(importance[layer][module])
                base = self._versions[address]
                told.append(Learned(address, *catalogue.update(address, base, arrays, weight)))
        return told

    def answer(self, images: Pixels) -> Numbers:
        """Classes (N,) of uint8 images (N, H, W, C)."""
        return predict(self._network, images, self._prepare, self._prior)

    def footprint(self, shape: tuple[int, int, int], yardstick: Yardstick) -> Footprint:
        """Of what it runs, measured."""
        return measure_footprint(self._network, shape, yardstick=yardstick)

    def _addresses(self) -> list[Address]:
        return [(layer, module) for layer, held in enumerate(self._network.held) for module in held]
