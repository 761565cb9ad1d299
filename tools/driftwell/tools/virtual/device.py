"""A device in virtual time.

Its decisions are the edge's own: the node with its filter, the packing, the checks of a
version. What is missing is what only a network and a disk need: spool, window, resends.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.assembly import build_node
from driftwell.edge.node import EdgeNode
from driftwell.edge.packing import stamp
from driftwell.edge.predictions import Predictions
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.uploads import Origin, Prepared, UploadBudget, origin_of
from driftwell.messages.codec import decode, encode
from driftwell.messages.errors import MalformedError, WireError
from driftwell.messages.head import Head, Manifest
from driftwell.messages.names import split_domain
from driftwell.messages.signing import verify_head
from driftwell.messages.state import State
from driftwell.models.bundle import Bundle
from driftwell.recording.batches import Batch


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered batch."""

    labels: NDArray[np.int64]
    """(N,): the classes it was answered with."""
    swapped: Manifest | None
    """The new version that answered first with this batch, if one did."""
    uploads: tuple[tuple[bytes, int], ...]
    """Encoded sample batches, numbered, and how many images each holds."""
    forward_s: float
    """Seconds in the network, by the clock the device was given."""


@dataclass(slots=True)
class VirtualDevice:
    """One run of a device, from its birth to its end."""

    settings: EdgeSettings
    bundle: Bundle
    session: str
    monotonic_s: Callable[[], float] = lambda: 0.0
    node: EdgeNode = field(init=False)
    budget: UploadBudget = field(init=False)
    origin: Origin = field(init=False)
    last_seq: int = 0

    def __post_init__(self) -> None:
        self.node = build_node(self.settings, self.bundle, self.monotonic_s)
        self.budget = UploadBudget(self.settings.budget, gather=self.settings.upload.gather)
        self.origin = origin_of(self.settings, model=self.bundle.digest)

    def answer(self, batch: Batch, *, now_ns: int) -> Answer:
        """Answer a batch and pack what the filter selects.

        Raises:
            ArrayError: if the images are not what the model takes.
        """
        predictions = self.node.infer(batch.images, rate=self.budget.rate)
        return Answer(
            predictions.label.astype(np.int64),
            None if predictions.is_recalled else predictions.swapped,
            tuple(self._uploads(batch, predictions, now_ns)),
            predictions.forward_s,
        )

    def rest(self, *, now_ns: int) -> list[tuple[bytes, int]]:
        """What small batches have gathered, as `Answer.uploads`: no other comes."""
        return self._all_numbered(self.budget.rest(self.origin, clock_ns=now_ns))

    def listens_to(self, name: str) -> bool:
        """Whether heads of a cohort, or of a domain of one, come to it."""
        cohort, domain = split_domain(name)
        return cohort == self.settings.cohort_name and (domain == 0 or self.settings.watches_drift)

    def take_head(self, payload: bytes, *, now_ns: int) -> bool:
        """Check a version as a device does; whether it was taken or known already.

        The key is the head's own: the signer is the cloud of this very run.
        """
        try:
            head = decode(payload, limit_bytes=self.settings.message_limit_bytes)
            if not isinstance(head, Head):
                raise MalformedError("no head")
            self.node.offer(verify_head(head, head.key), now_ns=now_ns)
        except WireError:
            return False
        return True

    def state(self, status: Literal["ready", "stopped"], *, now_ns: int) -> bytes:
        """The birth document, or the orderly end."""
        incumbent = self.node.incumbent
        return encode(
            State(
                device=self.settings.device,
                session=self.session,
                seq=1,
                clock_ns=now_ns,
                model=self.bundle.digest,
                status=status,
                cohort=self.settings.cohort_name,
                version=incumbent.version,
                result=incumbent.result,
                last_seq=self.last_seq,
            )
        )

    def _uploads(
        self, batch: Batch, predictions: Predictions, now_ns: int
    ) -> list[tuple[bytes, int]]:
        prepared = self.budget.prepare(
            predictions.selection(batch.images, batch.index),
            self.origin,
            seen=len(batch.index),
            clock_ns=now_ns,
            has_drifted=predictions.has_drifted,
        )
        return self._all_numbered(prepared)

    def _all_numbered(self, prepared: Prepared) -> list[tuple[bytes, int]]:
        limit_bytes = self.origin.limit_bytes
        return [
            (self._numbered(payload, limit_bytes), samples)
            for payload, samples in prepared.payloads
        ]

    def _numbered(self, payload: bytes, limit_bytes: int) -> bytes:
        self.last_seq += 1
        # All earlier batches are settled: the cloud answers before the next one is sent.
        return stamp(
            payload,
            session=self.session,
            seq=self.last_seq,
            oldest_seq=self.last_seq,
            limit_bytes=limit_bytes,
        )
