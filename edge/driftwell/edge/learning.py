"""What a device learns of its modules from labelled images, as what it tells the cloud.

It trains a copy of the sub-model it runs. What many devices have learned comes back as the cloud's
next versions of the modules, folded and verified. Only the head of its training is its own, and
stays here. Until a version comes the device goes on with what it runs, or, if it was told so and
it pays, with what it learned itself.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from driftwell.edge.lessons import Lessons
from driftwell.edge.modules import Modules
from driftwell.edge.settings import LearningSettings
from driftwell.edge.submodels import Part
from driftwell.edge.subnetwork import SubNetwork
from driftwell.messages.blob import Arrays, encode_difference
from driftwell.messages.delta import Delta
from driftwell.messages.images import Pixels
from driftwell.models.modular.learning import batch_statistics, head_of, learn, try_out
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module
from driftwell.models.modular.prior import log_prior
from driftwell.models.network import Preparation
from driftwell.models.training import MIN_BATCH, Effort

BITS: Final = 4
"""Of a value in what is told."""
NICENESS: Final = 10
"""How much the thread that trains gives way to the one that answers, where the system can."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned of one module."""

    part: Part
    """What the training began with."""
    delta: Delta
    """The difference from its piece."""
    importance: float
    """Of the module on the images, 0 to 1."""
    samples: int


class Learner:
    """Trains now and then, in a thread of its own."""

    def __init__(self, modules: Modules, settings: LearningSettings, *, classes: int) -> None:
        self.modules = modules
        self._effort = Effort(epochs=settings.epochs, rate=settings.rate, batch=settings.batch)
        self._prepare = Preparation(modules.model.manifest.preprocessing)
        self._classes = classes
        self._head: dict[str, torch.Tensor] | None = None
        self._trainings = 0
        self._keeps = settings.keep
        self.kept: tuple[Sequence[Part], SubNetwork] | None = None
        """What the last training led to, and of which parts, if the device is to answer by it."""
        self.lessons = Lessons(settings, classes=classes)
        self.thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="learning", initializer=_give_way
        )
        """Where `learn` is to run."""

    def learn(self, images: Pixels, labels: NDArray[np.int64]) -> list[Learned]:
        """Train a copy of the sub-model that runs, and say what its modules learned.

        Args:
            images: uint8 (N, H, W, C), at least 2.
            labels: (N,)

        Raises:
            BundleError: if a piece is not there any more, or the network has no head.
            ArrayError: if what was learned is not finite, or does not fit in few bits.
        """
        if len(labels) < MIN_BATCH:
            return []
        parts = self.modules.parts
        before = self._pieces(parts)
        network = self._network(parts, before)
        with torch.inference_mode():
            use = [layer.numpy() for layer in network.importance(self._prepare(images))]
        self._trainings += 1
        pays = self._keeps and self._pays(parts, before, images, labels)
        self._train(network, images, labels)
        learned_head = {
            name: tensor.clone() for name, tensor in head_of(network).state_dict().items()
        }
        self.kept = None
        if all(bool(tensor.isfinite().all()) for tensor in learned_head.values()):
            self._head = learned_head
            if pays:
                after = {(one.layer, one.module): read_module(network, one.layer, one.module)
                         for one in parts}  # fmt: skip
                self.kept = parts, self._own(parts, after, learned_head)
        learned = []
        for part in parts:
            delta = _difference(
                before[part.layer, part.module], read_module(network, part.layer, part.module)
            )
            if delta is not None:
                importance = min(1.0, max(0.0, float(use[part.layer][part.module])))
                learned.append(Learned(part, delta, importance, len(labels)))
        return learned

    def _network(
        self, parts: Sequence[Part], pieces: Mapping[tuple[int, int], Arrays]
    ) -> ModularNetwork:
        """What runs, to be trained."""
        return self.modules.model.modular.sub_model(
            _chosen(parts, len(self.modules.owner.values)),
            lambda layer, module: pieces.get((layer, module)),
        )

    def _own(
        self,
        parts: Sequence[Part],
        learned: Mapping[tuple[int, int], Arrays],
        head: Mapping[str, torch.Tensor],
    ) -> SubNetwork:
        """A network of what was learned, to answer with."""
        return self.modules.model.sub_network(
            _chosen(parts, len(self.modules.owner.values)),
            lambda layer, module: learned.get((layer, module)),
            own_statistics=self.modules.own_statistics,
            head=head,
        )

    def _train(self, network: ModularNetwork, images: Pixels, labels: NDArray[np.int64]) -> None:
        if self._head is not None:
            head_of(network).load_state_dict(self._head)
        learn(
            network, images, labels, self._prepare, self._effort, seed=[self._trainings],
            prior=log_prior(labels, self._classes),
        )  # fmt: skip

    def _pays(
        self,
        parts: Sequence[Part],
        pieces: Mapping[tuple[int, int], Arrays],
        images: Pixels,
        labels: NDArray[np.int64],
    ) -> bool:
        """Whether training on three of four images answers the fourth better than what runs."""
        tried, rest = try_out(len(labels), self._trainings)
        if len(tried) < MIN_BATCH or len(rest) < MIN_BATCH:
            return False
        prior = torch.from_numpy(log_prior(labels, self._classes))
        runs, trial = self._network(parts, pieces), self._network(parts, pieces)
        self._train(trial, images[rest], labels[rest])
        losses = []
        for network in (runs, trial):
            with batch_statistics(network), torch.no_grad():
                logits = network(self._prepare(images[tried])) + prior
            losses.append(functional.cross_entropy(logits, torch.from_numpy(labels[tried])))
        return bool(losses[1] < losses[0])  # NaN: no

    def _pieces(self, parts: Sequence[Part]) -> dict[tuple[int, int], Arrays]:
        pieces = {}
        for part in parts:
            arrays = self.modules.supply.arrays(part.layer, part.module, part.piece)
            if arrays is not None:  # else `sub_model` says which one is missing
                pieces[part.layer, part.module] = arrays
        return pieces


def _chosen(parts: Sequence[Part], layers: int) -> list[list[int]]:
    return [[part.module for part in parts if part.layer == layer] for layer in range(layers)]


def _difference(before: Arrays, after: Arrays) -> Delta | None:
    """The difference in few bits; None: there is none."""
    delta = encode_difference(before, after, bits=BITS)
    return delta if delta.entries else None


def _give_way() -> None:
    # On Linux a thread has a priority of its own; elsewhere it would be the whole process's.
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
