"""A sub-model at work in a device: what versions say about the whole model it takes its share of.

Versions, heads and digests are those of the whole modular model's adaptable state, whatever
sub-model runs. A sub-model takes of a version what changed from the source, on the channels it
holds, and adds it to the values of its own pieces, which may be newer than the bundle's:

    adapted = piece + (version - source)

Where the piece is the bundle's that is the version to the bit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.edge.usage import Meter
from driftwell.messages.delta import AdaptableState
from driftwell.messages.errors import ArrayError
from driftwell.messages.images import Pixels
from driftwell.models.manifest import BundleManifest
from driftwell.models.modular.bundle import ModularBundle
from driftwell.models.modular.cutting import Chosen
from driftwell.models.modular.learning import head_of
from driftwell.models.modular.network import mean_gates
from driftwell.models.modular.pieces import moved_on
from driftwell.models.modular.shares import take_shares
from driftwell.models.modular.skeleton import ArraysOf
from driftwell.models.network import Logits, Network
from driftwell.models.own_statistics import StatisticsSettings
from driftwell.models.selftest import selftest_images

MEASURE_EVERY: Final = 16
"""Batches for each one whose use of the modules is measured."""
MEASURE_FIRST: Final = 256
"""Images in the beginning that all are, so that the cloud need not wait."""


@dataclass(frozen=True, slots=True, eq=False)
class ModularModel:
    """A modular bundle as a node takes it: like a bundle, with the fallback as its network."""

    modular: ModularBundle
    source: AdaptableState
    """The whole model's adaptable state, version 0; empty if the folder does not tell it."""
    meter: Meter = field(default_factory=Meter)
    """How much the device's images use each module."""

    @property
    def digest(self) -> str:
        """Of the bundle."""
        return self.modular.digest

    @property
    def manifest(self) -> BundleManifest:
        """Of the bundle."""
        return self.modular.manifest

    def network(self, *, own_statistics: StatisticsSettings | None = None) -> "SubNetwork":
        """The fallback at work; argument as of `Bundle.network`."""
        return self.sub_network(self.modular.spec.fallback, own_statistics=own_statistics)

    def sub_network(
        self,
        chosen: Chosen,
        arrays_of: ArraysOf | None = None,
        *,
        own_statistics: StatisticsSettings | None = None,
        head: Mapping[str, Tensor] | None = None,
    ) -> "SubNetwork":
        """A sub-model at work; arguments as of `ModularBundle.network`.

        `head`: the state of another head than the trunk's; None: that one.

        Raises:
            BundleError: as `ModularBundle.sub_model`.
        """
        return SubNetwork(self, chosen, arrays_of, own_statistics=own_statistics, head=head)


class SubNetwork(Network):
    """A network that takes versions of the whole model it is a part of."""

    def __init__(
        self,
        model: ModularModel,
        chosen: Chosen,
        arrays_of: ArraysOf | None = None,
        *,
        own_statistics: StatisticsSettings | None = None,
        head: Mapping[str, Tensor] | None = None,
    ) -> None:
        bundle = model.modular
        sub_model = bundle.sub_model(chosen, arrays_of)
        if head is not None:
            head_of(sub_model).load_state_dict(head)
        super().__init__(
            sub_model,
            bundle.manifest.preprocessing,
            scope=bundle.scope,
            own_statistics=own_statistics,
        )
        if own_statistics is not None and bundle.scope == "all":
            self.keep_stem(selftest_images(bundle.manifest.input.shape))
        self._modular = sub_model
        self._shares = bundle.adaptable_slices(chosen)
        self._pieces = self.state()
        """Of the pieces, before any version."""
        self._source = take_shares(model.source, self._shares, self._pieces) if model.source else {}
        self._meter = model.meter
        self._batches = 0
        sub_model.selector.register_forward_hook(self._note_use)

    @property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """For each module layer the modules it holds."""
        return self._modular.held

    def logits(self, images: Pixels) -> Logits:
        """As `Network.logits`; what was answered counts among the classes' shares."""
        logits = super().logits(images)
        if len(logits):
            self._meter.answer(logits)
        return logits

    def install(self, state: AdaptableState) -> None:
        """Take the share of the whole model's state.

        Raises:
            ArrayError: as `Network.install`, or if the bundle's folder does not tell the source
                state, so that nobody knows what of it the version changed.
        """
        if not self._source:
            raise ArrayError("the bundle's folder does not tell the source state")
        if state.keys() != self._shares.keys():
            raise ArrayError("the state does not hold exactly the whole model's adaptable arrays")
        share = take_shares(state, self._shares, self._pieces)
        super().install(
            {name: moved_on(name, piece, self._source[name], share[name])
             for name, piece in self._pieces.items()}
        )  # fmt: skip

    def signature(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """As `Network.signature`; None also where each sub-model would have other channels."""
        if self._first is not None and any(
            self._modular.trunk.get_submodule(place.norm) is self._first
            for place in self._modular.places
            if place.norm is not None
        ):
            return None
        return super().signature()

    def _note_use(
        self, _selector: nn.Module, _inputs: object, output: tuple[list[Tensor], list[Tensor]]
    ) -> None:
        """Take what the selector has just said, of a thin share of the batches."""
        scores, _ = output
        if self._meter.usage.images < MEASURE_FIRST or self._batches % MEASURE_EVERY == 0:
            gates = [layer.float().numpy() for layer in mean_gates(scores)]
            self._meter.take(gates, len(scores[0]))
        self._batches += 1


def whole_source(bundle: ModularBundle) -> Mapping[str, NDArray[np.float32]]:
    """The whole model's adaptable state as far as a bundle's folder tells it; else empty.

    Raises:
        BundleError: if a module's file was altered.
    """
    if bundle.source is not None:
        return bundle.source
    everything = [range(place.total) for place in bundle.places]
    if any(
        bundle.module_arrays(layer, module) is None
        for layer, modules in enumerate(everything)
        for module in modules
    ):
        return {}
    network = Network(
        bundle.sub_model(everything), bundle.manifest.preprocessing, scope=bundle.scope
    )
    return network.state()
