"""One device of the method `driftwell`: it asks for modules, runs them, and learns with them."""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from driftwell.cloud.modular.catalogue import Address, Catalogue, Update
from driftwell.cloud.modular.importance import Importance
from driftwell.messages.images import Pixels
from driftwell.models.footprint import Footprint, Yardstick, measure_footprint
from driftwell.models.modular.decomposition import derive
from driftwell.models.modular.learning import head_of, learn, try_out
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import Arrays, read_module, write_module
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
        self._network = self._answering = smallest
        self._prepare = prepare
        self._classes = classes
        self._prior: Prior | None = None
        self._versions: dict[Address, int] = {}
        """Of all modules it has fetched; those it does not run now are kept on its disk."""
        self._head: State | None = None
        """Of its training."""
        self._trained: ModularNetwork | None = None
        """A copy of what it runs, after the training of this step."""
        self._own: dict[Address, Arrays] = {}
        """Its own versions of modules, if it answers by them."""

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
        """Run the cloud's newest versions of these modules, for each layer, from now on.

        Of those of which it went on with its own, the mean of both.
        """
        self._network = derive(whole, [sorted(layer) for layer in chosen])
        for address in self._addresses():
            mine, newest = self._own.get(address, {}), read_module(self._network, *address)
            if mine:
                half = np.float32(0.5)
                mean = {name: half * (mine[name] + array) for name, array in newest.items()}
                write_module(self._network, *address, mean)
        self._answering = self._network

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

        It answers with the copy only if such a training pays: if one on three of four samples
        has a smaller loss on the fourth than what it runs. On few images of a hard problem it
        does not. (In the program: `learning.keep`.)

        Its classes' shares belong to the loss: so the logits stay those of somebody who knows
        nothing of them, and modules can be shared with devices that have other classes.
        """
        if knows_classes:
            self._prior = log_prior(samples.labels, self._classes)
        if not effort.epochs:
            return
        held_out, rest = (samples.at(places) for places in try_out(len(samples), seed))
        trial = self._learned(rest, effort, seed)
        pays = self._loss(trial, held_out) < self._loss(self._network, held_out)
        self._trained = self._learned(samples, effort, seed)
        self._answering = self._trained if pays else self._network
        self._own = {one: read_module(self._trained, *one) for one in self._addresses() if pays}
        self._head = state_of(head_of(self._trained))

    def _learned(self, samples: Samples, effort: Effort, seed: Sequence[int]) -> ModularNetwork:
        """A copy of what it runs, trained, with the head of its last training to begin with."""
        network = copy.deepcopy(self._network)
        if self._head is not None:
            install(head_of(network), self._head)
        learn(
            network, samples.images, samples.labels, self._prepare, effort,
            seed=seed, prior=self._prior, trunk_follows=True,
        )  # fmt: skip
        return network

    def _loss(self, network: ModularNetwork, samples: Samples) -> float:
        """Mean cross-entropy, nats."""
        with torch.inference_mode():
            logits: Tensor = network(self._prepare(samples.images))
        if self._prior is not None:
            logits = logits + torch.from_numpy(self._prior)
        return float(functional.cross_entropy(logits, torch.from_numpy(samples.labels)))

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
        return predict(self._answering, images, self._prepare, self._prior)

    def footprint(self, shape: tuple[int, int, int], yardstick: Yardstick) -> Footprint:
        """Of what it runs, measured."""
        return measure_footprint(self._network, shape, yardstick=yardstick)

    def _addresses(self) -> list[Address]:
        return [(layer, module) for layer, held in enumerate(self._network.held) for module in held]
