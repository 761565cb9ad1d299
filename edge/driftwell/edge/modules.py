"""What a device with a modular bundle decides: which sub-models it takes, and which one it runs.

It runs the cloud's newest as soon as all of it is here, and goes back to an older one, or to its
bundle's fallback, when its own limits demand it. Whatever fails, what runs goes on running.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from driftwell.edge.events import Refusals
from driftwell.edge.fitting import FALLBACK, Fitting, Option, fit
from driftwell.edge.limits import limit_amounts
from driftwell.edge.limits_file import LimitsFile
from driftwell.edge.node import EdgeNode
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.shelf import Kept, Shelf, decode_shelf, encode_shelf
from driftwell.edge.spool import Spool
from driftwell.edge.submodels import (
    Owner,
    Part,
    chosen_of,
    is_repeat,
    require_room,
    resolve_submodel,
)
from driftwell.edge.subnetwork import ModularModel, SubNetwork
from driftwell.edge.supply import Supply, Whole, module_values
from driftwell.edge.timing import Clocks
from driftwell.edge.trust import Trust
from driftwell.messages.blob import Blob
from driftwell.messages.codec import decode
from driftwell.messages.errors import (
    ArrayError,
    BundleError,
    MalformedError,
    SettingsError,
    WireError,
)
from driftwell.messages.signing import verify_submodel
from driftwell.messages.submodel import SubModel, SubModelManifest
from driftwell.models.statistics import StatisticsSettings

SUBMODELS: Final = "submodels"
"""Under which the last few are remembered."""
FOLDER: Final = "pieces"
"""Of the pieces, in the state folder."""

log = structlog.get_logger()


class Modules:
    """Sub-models and pieces of one device; all but `build` and `supply.unpack` in one thread."""

    def __init__(
        self,
        model: ModularModel,
        node: EdgeNode,
        settings: EdgeSettings,
        *,
        spool: Spool,
        trust: Trust,
        refusals: Refusals,
        counters: Counter[str],
        clocks: Clocks,
    ) -> None:
        self.model = model
        self._node = node
        self._spool = spool
        self._trust = trust
        self._refusals = refusals
        self._counters = counters
        self._clocks = clocks
        self._message_limit_bytes = settings.message_limit_bytes
        self._pieces_limit_bytes = settings.pieces.limit_bytes
        self._patience_s = settings.limits_patience_s
        values = module_values(model.modular)
        self.owner = Owner(settings.group, settings.device, model.digest, values)
        self.supply = Supply(model.modular, self.owner, spool.folder / FOLDER, settings.pieces)
        self.limits = settings.limits
        """What the model may take at present."""
        self._limits_file = LimitsFile(settings.limits_file) if settings.limits_file else None
        self._shelf = Shelf()
        self._fitting = Fitting()
        self._told: int | None = None
        """The cloud's newest word, as long as it has not been followed."""
        self._unusable: set[int] = set()
        """Versions that are here, and no network comes of them."""

    @property
    def running(self) -> int:
        """The version of the sub-model that answers from the next batch on; 0: the fallback."""
        return self._fitting.running

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the sub-model that runs is made of."""
        kept = self._shelf.find(self.running)
        if kept is not None:
            return kept.parts
        spec = self.model.modular.spec
        return tuple(
            Part(layer, module, 0, spec.modules[layer][module])
            for layer, chosen in enumerate(spec.fallback)
            for module in chosen
        )

    @property
    def own_statistics(self) -> StatisticsSettings | None:
        """How its networks follow their stream; None: they do not."""
        return self._node.own_statistics

    @property
    def costs(self) -> Mapping[str, float]:
        """What the sub-model that runs takes of each resource, as far as the cloud has said."""
        kept = self._shelf.find(self.running)
        return {} if kept is None else kept.manifest.costs

    def take_submodel(self, message: SubModel, payload: bytes) -> None:
        """Verify a sub-model and lack its pieces; a refusal is reported with its code."""
        manifest: SubModelManifest | None = None
        try:
            manifest = verify_submodel(message, self._trust.key(message.key))
            self._trust.keep(message.key)
            newest = self._shelf.newest
            if is_repeat(newest.manifest if newest else None, manifest):
                return
            now_ns = self._clocks.wall_ns()
            parts = resolve_submodel(self.owner, self._shelf.version, manifest, now_ns=now_ns)
            fetched = [part for part in (*self.parts, *parts) if part.piece not in self.supply.own]
            require_room(self.owner, fetched, limit_bytes=self._pieces_limit_bytes)
        except WireError as error:
            self._refusals.note("submodel", manifest.version if manifest else 0, error)
            return
        self._shelf = self._shelf.put(Kept(manifest, parts, payload), running=self.running)
        self._spool.remember(SUBMODELS, encode_shelf(self._shelf))
        self._told = manifest.version
        self._begin()
        log.info("submodel.taken", version=manifest.version, lacks=len(self.supply.fetching))

    def take_blob(self, blob: Blob) -> None:
        """Take a chunk of a piece; a refusal is reported with its code."""
        try:
            self.supply.take(blob, self._clocks.monotonic_s())
        except WireError as error:
            self._refusals.note("piece", self.supply.fetching.submodel, error)
        self._counters["pieces_bytes"] = self.supply.received_bytes

    def settle(self, whole: Whole, outcome: bool | WireError) -> None:
        """Note what `supply.unpack` returned or raised."""
        if isinstance(outcome, WireError):
            self._refusals.note("piece", self.supply.fetching.submodel, outcome)
            self.supply.settle(whole, is_kept=False, is_bad=True)
            return
        if outcome:
            self._counters["pieces_fetched"] += 1
        else:
            self._counters["pieces_not_kept"] += 1
            log.warning("piece.not-kept", piece=whole.part.piece, reason="disk or limit is full")
        self.supply.settle(whole, is_kept=outcome)

    def look_at_limits(self) -> bool:
        """Look at the file of limits, if there is one; whether other limits hold from now on."""
        try:
            limits = self._limits_file.look() if self._limits_file else None
        except SettingsError as error:
            log.warning("limits.not-read", error=str(error))
            return False
        if limits is None or limits == self.limits:
            return False
        self.limits = limits
        log.info("limits.changed", **limit_amounts(limits))
        return True

    def decide(self, now_s: float, *, patience_s: float | None = None) -> int | None:
        """The version that is to run in place of the present one; None: it is to stay.

        Args:
            now_s: Seconds, monotonic.
            patience_s: As for `fit`; None: as the settings say.
        """
        options = [
            Option(one.manifest.version, chosen_of(one.manifest), one.manifest.costs)
            for one in self._shelf
            if one.manifest.version == self.running
            or (one.manifest.version not in self._unusable and self.supply.has_all(one.parts))
        ]
        decided = fit(
            self._fitting,
            options,
            limit_amounts(self.limits),
            self.model.meter.usage.importance,
            now_s=now_s,
            patience_s=self._patience_s if patience_s is None else patience_s,
            told=self._told,
        )
        if decided.running == self._fitting.running:
            self._fitting = decided
            return None
        return decided.running if decided.running not in self._unusable else None

    @property
    def waiting_for(self) -> int | None:
        """The version it will go to by itself if nothing changes; None: to no other."""
        return self._fitting.better

    def wait_s(self, now_s: float) -> float | None:
        """How long until it may decide otherwise by itself, in seconds; None: it will not."""
        fitting = self._fitting
        if fitting.better is None:
            return None
        return max(0.0, fitting.since_s + self._patience_s - now_s)

    def build(self, version: int) -> SubNetwork:
        """A network of a sub-model; 0: of the fallback. For another thread.

        Raises:
            BundleError: if a piece is missing or does not fit, or there is no memory for it.
        """
        own_statistics = self.own_statistics
        kept = self._shelf.find(version)
        if version == FALLBACK or kept is None:
            return self.model.network(own_statistics=own_statistics)
        pieces = {(part.layer, part.module): part.piece for part in kept.parts}
        try:
            return self.model.sub_network(
                chosen_of(kept.manifest),
                lambda layer, module: self.supply.arrays(layer, module, pieces[layer, module]),
                own_statistics=own_statistics,
            )
        except (MemoryError, RuntimeError) as error:  # torch says the former by the latter
            raise BundleError(f"sub-model {version} cannot be built here: {error}") from error

    def switch(self, version: int, network: SubNetwork) -> None:
        """Answer with a sub-model from the next batch on."""
        self._node.switch(network)
        before, self._fitting = self.running, Fitting(version)
        self._counters["submodels_applied"] += 1
        if self._told == version:
            self._told = None
        self.supply.store.use(part.piece for part in self.parts)
        fetched_bytes = self.supply.received_bytes
        log.info("submodel.applied", version=version, before=before, fetched_bytes=fetched_bytes)

    def switch_own(self, parts: Sequence[Part], network: SubNetwork) -> bool:
        """Answer with what was learned of these parts, if they still run; whether they do."""
        if tuple(parts) != self.parts or self._node.is_switching:
            return False
        self._node.switch(network)
        self._counters["trainings_kept"] += 1
        return True

    def not_built(self, version: int, error: BundleError) -> None:
        """No network came of a sub-model: fetch again what was damaged, or never try it again."""
        kept = self._shelf.find(version)
        if kept is not None and not self.supply.has_all(kept.parts):
            log.warning("piece.damaged", submodel=version)
            if kept is self._shelf.newest:
                self._begin()
            return
        self._unusable.add(version)
        self._refusals.note("submodel", version, ArrayError(str(error)))

    def restore(self) -> None:
        """Go on with the newest sub-model that is whole on the disk, before the first batch."""
        self.look_at_limits()
        for payload in decode_shelf(self._spool.recall(SUBMODELS)):
            try:
                self._restore_one(payload)
            except WireError as error:  # of another bundle, key or name: what is left may do
                log.warning("submodel.not-restored", error=str(error))
        if self._shelf.newest is None:
            return
        self._told = self._shelf.version
        self._begin()
        version = self.decide(self._clocks.monotonic_s(), patience_s=0.0)
        if version is not None:
            try:
                self.switch(version, self.build(version))
            except BundleError as error:
                self.not_built(version, error)

    def _restore_one(self, payload: bytes) -> None:
        message = decode(payload, limit_bytes=self._message_limit_bytes)
        if not isinstance(message, SubModel):
            raise MalformedError("what was kept is no sub-model")
        manifest = verify_submodel(message, self._trust.key(message.key))
        # It was taken in time; that it has expired since is no reason to run a lesser one.
        parts = resolve_submodel(self.owner, self._shelf.version, manifest, now_ns=0)
        self._shelf = self._shelf.put(Kept(manifest, parts, payload), running=self.running)

    def _begin(self) -> None:
        newest = self._shelf.newest
        if newest is None:
            return
        keep = {part.piece for part in (*newest.parts, *self.parts)}
        self.supply.begin(newest.manifest.version, newest.parts, keep=keep)
