"""The edge node as a library: images in, predictions out, versions taken between batches.

    node = EdgeNode(open_bundle(path), FilterSettings())
    predictions = node.infer(images)          # uint8 (N, H, W, C)
    worth_learning = images[predictions.selected]

No MQTT, no clock, no disk. The daemon is this object with loops around it. `infer` may
run in another thread than `offer`: the swap happens at the start of the next `infer`.
"""

import threading
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.edge.applier import Incumbent, is_news, promoted, resolve_version
from driftwell.edge.bank import BankSettings
from driftwell.edge.candidate import Candidate, banked, known, last_taken
from driftwell.edge.choosing import Chooser, SelectionSettings
from driftwell.edge.domains import Domains, Memory
from driftwell.edge.drift import DriftSettings, DriftVerdict
from driftwell.edge.filter import FilterSettings, FilterState, entropy_bounds, judge
from driftwell.edge.model import Model
from driftwell.edge.predictions import Predictions
from driftwell.edge.scoring import score
from driftwell.edge.settings import Statistics
from driftwell.messages.delta import AdaptableState
from driftwell.messages.errors import ArrayError
from driftwell.messages.head import Manifest
from driftwell.messages.images import Pixels
from driftwell.messages.names import split_domain
from driftwell.messages.signature import Signature, make_signature
from driftwell.models.network import MIN_BATCH_FOR_STATISTICS, Network
from driftwell.models.statistics import StatisticsSettings


class EdgeNode:
    """A model that answers, notices what it is unsure of, and takes new versions."""

    def __init__(
        self,
        bundle: Model,
        settings: FilterSettings,
        *,
        selection: SelectionSettings = SelectionSettings(),  # noqa: B008
        drift: DriftSettings | None = None,
        bank: BankSettings = BankSettings(),  # noqa: B008
        group: str = "default",
        cohort: str = "local",
        statistics: Statistics = "first-batch",
        own_statistics: StatisticsSettings | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Args say who the node is.

        Args:
            bundle: The model.
            settings: The filter.
            selection: How it chooses among what the filter selects, where not all may be sent.
            drift: How it watches for drift; None: it does not. Needs own statistics.
            bank: How it remembers domains, where it watches.
            group: The group of the heads it accepts.
            cohort: The cohort of the heads it accepts.
            statistics: What BatchNorm normalises by. `first-batch`: the first batch's statistics
                in place of the source's, until a version brings better ones (as the official
                CEMA code does). `delivered`: the source's, then the versions'. `own`: an
                average over the images the node has answered, with those as a prior.
            own_statistics: With `own`, how the average is kept; None: as by default.
            clock: Seconds, monotonic; only measures.
        """
        self.bundle, self.settings = bundle, settings
        self.filter_state = FilterState()
        own = own_statistics or StatisticsSettings()
        self.own_statistics = own if statistics == "own" else None
        """How its networks follow their stream; None: they do not."""
        self._network = bundle.network(own_statistics=self.own_statistics)
        self.class_prior: NDArray[np.float32] | None = None
        """How often each class is here, (C,), as `score` takes it; None: nothing is known."""
        self._next_network: Network | None = None
        self._state: AdaptableState | None = None
        """What the version that runs says; None: the source state."""
        self.domains = Domains(drift if statistics == "own" else None, bank)
        self._incumbent = Incumbent(
            group, cohort, bundle.digest, bundle.manifest.source_digest,
            version=0, result=bundle.manifest.source_digest, has_domains=self.domains.is_watching,
        )  # fmt: skip
        self._candidate: Candidate | None = None
        self._lock = threading.Lock()
        self._clock = clock
        self._choice = Chooser(selection, classes=len(bundle.manifest.classes))
        self._running_in = 0
        """The domain of the version that runs."""
        self._measures_first = self._measure_next = statistics == "first-batch"
        self._forward_s = 0.0

    @property
    def incumbent(self) -> Incumbent:
        """What the node runs, or will run from the next batch on."""
        with self._lock:
            candidate = self._candidate
            return promoted(self._incumbent, candidate.manifest) if candidate else self._incumbent

    @property
    def may_mistake_versions_for_drift(self) -> bool:
        """Whether it watches by what a version may change: see `models.stem`."""
        return self.domains.is_watching and not self._network.has_fixed_signatures

    @property
    def entropy_max_nats(self) -> float:
        """The filter's present upper bound."""
        return entropy_bounds(self.settings, self.filter_state, self._classes)[1]

    @property
    def _classes(self) -> int:
        return len(self.bundle.manifest.classes)

    def offer(self, manifest: Manifest, *, now_ns: int) -> bool:
        """Take a verified version; it answers from the next batch on, or when its domain returns.

        Returns:
            Whether it was news; a version already taken is not, and nothing happens.

        Raises:
            DeltaError, ArrayError: the version is refused and nothing has changed.
        """
        domain = split_domain(manifest.cohort)[1]
        with self._lock:
            incumbent = last_taken(self._incumbent, self.domains, self._running_in, domain)
        if not is_news(incumbent, manifest):
            return False
        state = resolve_version(incumbent, manifest, self.bundle.source, now_ns=now_ns)
        with self._lock:
            self.domains.learned(manifest)
            if domain == self.domains.domain:
                self._candidate = Candidate(manifest, state)
        return True

    def switch(self, network: Network) -> None:
        """Answer with another network of the same model from the next batch on, in its version.

        Own statistics go on where only versions of modules are new, and else begin anew.

        Args:
            network: In its source state; the node's own from here on.
        """
        with self._lock:
            self._next_network = network

    @property
    def is_switching(self) -> bool:
        """Whether another network waits for the next batch."""
        return self._next_network is not None

    def take_place(self, *, drifts: int, domain: int) -> None:
        """Take the cloud's word where the samples went that were taken after so many drifts."""
        with self._lock:
            if self.domains.take_place(drifts, domain):
                self._candidate = banked(self.domains, self.bundle.source, domain)

    def memory(self) -> bytes:
        """Where the node is, for `remember` after a restart."""
        with self._lock:
            domains = self.domains
            memory = Memory(
                cohort=self._incumbent.cohort,
                model=self._incumbent.model,
                drifts=domains.drifts,
                domain=domains.domain,
                is_placed=domains.is_placed,
                running=self._running_in,
                known=[entry.domain for entry in domains.bank.entries],
            )
        return msgspec.json.encode(memory)

    def remember(self, memory: Memory) -> bool:
        """Be where the node was, with the versions that were offered since; whether it may be."""
        if (memory.cohort, memory.model) != (self._incumbent.cohort, self._incumbent.model):
            return False
        with self._lock:
            self.domains.drifts = memory.drifts
            self.domains.domain, self.domains.is_placed = memory.domain, memory.is_placed
            self._candidate = banked(self.domains, self.bundle.source, memory.running)
        return True

    def infer(self, images: Pixels, *, rate: float = 1.0) -> Predictions:
        """Answer one batch of uint8 images (N, H, W, C), N >= 1, and judge it.

        `rate` is the share of it that may be selected, 0 to 1.

        Raises:
            ArrayError: if the images are not what the model takes.
        """
        shape = self.bundle.manifest.input.shape
        if images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
            raise ArrayError(f"images are {images.dtype} {images.shape}, the model takes {shape}")
        swapped, self._forward_s = self._swap(), 0.0
        logits = self._forward(images)
        signature = self._signature(len(images), logits)
        recalled = self._recall(signature)
        if recalled is not None:
            swapped, logits = recalled, self._forward(images)
        scores = score(logits, self.class_prior)
        drift = self._watch(signature, scores.entropy)
        if drift is not None and drift.drifted and len(images) >= MIN_BATCH_FOR_STATISTICS:
            logits = self._forward(images)  # what was forgotten had answered
            scores = score(logits, self.class_prior)
        judgement = judge(self.settings, self.filter_state, scores.entropy, self._classes)
        self.filter_state = judgement.state
        verdicts = self._choice.choose(logits, scores.entropy, judgement.verdicts, rate)
        return Predictions(
            logits=logits,
            label=scores.label, confidence=scores.confidence, entropy=scores.entropy,
            verdicts=verdicts,
            version=self._incumbent.version,
            swapped=swapped.manifest if swapped else None,
            forward_s=self._forward_s,
            drift=drift, place=self.domains.place,
            is_recalled=swapped is not None and swapped.is_known,
        )  # fmt: skip

    def _signature(self, images: int, logits: NDArray[np.float32]) -> Signature | None:
        """What the batch looks like; None: nobody asks, or something is not finite."""
        moments = self._network.signature() if self.domains.is_watching else None
        if moments is None or not np.isfinite(logits).all():
            return None
        return make_signature(*moments, images=images)

    def _recall(self, signature: Signature | None) -> Candidate | None:
        """Move to a known domain if the batch is of one, and install its version."""
        if signature is None:
            return None
        with self._lock:
            entry = self.domains.recall(signature)
            if entry is None:
                return None
            self._candidate = None  # of the domain that was left; the bank has it
            candidate = known(entry, self.bundle.source)
            self._install(candidate)
        self.filter_state = FilterState()
        return candidate

    def _watch(
        self, signature: Signature | None, entropy: NDArray[np.float32]
    ) -> DriftVerdict | None:
        """Ask the detector; after a drift statistics and filter begin anew, with little trust."""
        if signature is None or not np.isfinite(entropy).all():
            return None
        with self._lock:
            verdict = self.domains.watch(
                signature, float(entropy.mean()), design_effect=self._network.design_effect
            )
            if verdict is not None and verdict.drifted:
                self._candidate = None
        if verdict is not None and verdict.drifted:
            self._network.restart_statistics(elsewhere=True)
            self.filter_state = FilterState()
        return verdict

    def _forward(self, images: Pixels) -> NDArray[np.float32]:
        began = self._clock()
        if self._measure_next and len(images) >= MIN_BATCH_FOR_STATISTICS:
            self._measure_next = False
            logits = self._network.logits_measuring_statistics(images)
        else:
            logits = self._network.logits(images)
        self._forward_s += self._clock() - began
        return logits

    def _swap(self) -> Candidate | None:
        with self._lock:
            self._switch()
            candidate, self._candidate = self._candidate, None
            if candidate is None:
                return None
            self._install(candidate)
        self._measure_next = False
        return candidate

    def _switch(self) -> None:
        network, self._next_network = self._next_network, None
        if network is None:
            return
        before, self._network = self._network, network
        if self._state is not None:
            network.install(self._state)
            network.restart_statistics(elsewhere=True)  # the version's are of other modules
        network.resume(before.followed)
        self._measure_next = self._measures_first and self._state is None
        self.domains.swapped()

    def _install(self, candidate: Candidate) -> None:
        self._network.install(candidate.state)
        self._state = candidate.state
        if candidate.manifest.provenance.trained_samples == 0:
            self._network.restart_statistics(elsewhere=True)  # it has seen no upload
        self._incumbent = promoted(self._incumbent, candidate.manifest)
        self._running_in = split_domain(candidate.manifest.cohort)[1]
        self.domains.swapped()
