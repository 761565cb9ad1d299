"""Pure. From chosen samples to the messages that may be stored for upload.

One place for the order that a budget demands: the choice is made with `UploadBudget.rate`,
then the batch is counted, then each encoded message is admitted or refused by its size.

Samples of small batches are gathered into one message. A message of one image is mostly header: as
JPEG, with signature and envelope, three times the bytes of a 64th of 64 images.
"""

from collections import Counter
from dataclasses import dataclass, replace

import msgspec

from driftwell.broker.connection import publish_packet_size
from driftwell.edge.budget import BudgetSettings, BudgetState, advance, allow, boost, rate
from driftwell.edge.packing import STAMP_BYTES, Selection, join_selections, pack_selection
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.topics import ROUTES, Kind, device_topic

OVER_BUDGET = "dropped:over-budget"
TOO_LARGE = "dropped:too-large"


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose samples they are, and how they travel."""

    device: str
    cohort: str
    model: str
    limit_bytes: int
    """Of one message."""
    quality: int | None
    """Of JPEG; None: without loss."""
    overhead_bytes: int
    """What a packet takes beside the encoded batch, at most."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one batch led to."""

    payloads: list[tuple[bytes, int]]
    """Encoded sample batches, and how many images each holds."""
    dropped: Counter[str]
    """Samples by fate."""


class UploadBudget:
    """A device's budget over time; `state` is what must survive a restart.

    A message is counted once, as a whole packet; what an unreliable link makes the device
    send again is not counted again.
    """

    def __init__(
        self, settings: BudgetSettings, state: BudgetState | None = None, *, gather: int = 1
    ) -> None:
        """Go on from `state`, and gather the samples of batches until `gather` images were seen."""
        self._settings = settings
        self.state = state or BudgetState()
        self._gather = gather
        self._gathered: list[Selection] = []
        self._seen = 0
        """Images of the batches that are gathered."""

    @property
    def rate(self) -> float:
        """The share of the next batch to choose, 0 to 1; what is gathered counts as sent."""
        waiting = sum(map(len, self._gathered))
        return rate(self._settings, replace(self.state, debt=self.state.debt - waiting))

    @property
    def is_gathering(self) -> bool:
        """Whether batches were counted whose samples are in no message yet."""
        return bool(self._gathered)

    def prepare(
        self,
        selection: Selection,
        origin: Origin,
        *,
        seen: int,
        clock_ns: int,
        has_drifted: bool = False,
    ) -> Prepared:
        """Count what was chosen of `seen` images; if enough are gathered, encode them.

        Samples of two domains never share a message, and a new domain's do not wait.
        With `has_drifted` there is more room from here on (`budget.boost`).
        """
        if has_drifted:
            self.state = boost(self._settings, self.state)
        self.state = advance(self._settings, self.state, seen=seen, now_ns=clock_ns)
        is_elsewhere = bool(self._gathered) and not self._gathered[-1].is_beside(selection)
        self._gathered.append(selection)
        self._seen += seen
        if self._seen < self._gather and not is_elsewhere:
            return Prepared([], Counter())
        return self.rest(origin, clock_ns=clock_ns)

    def rest(self, origin: Origin, *, clock_ns: int) -> Prepared:
        """Encode what is gathered, and admit what the budget allows."""
        gathered, self._gathered, self._seen = self._gathered, [], 0
        packed: list[tuple[bytes, int]] = []
        dropped: Counter[str] = Counter()
        for selection in join_selections(gathered):
            more, too_large = pack_selection(
                selection,
                device=origin.device,
                cohort=origin.cohort,
                model=origin.model,
                clock_ns=clock_ns,
                limit_bytes=origin.limit_bytes,
                quality=origin.quality,
            )
            packed += more
            dropped[TOO_LARGE] += too_large
        payloads: list[tuple[bytes, int]] = []
        for payload, samples in packed:
            admission = allow(
                self._settings,
                self.state,
                samples=samples,
                size_bytes=len(payload) + origin.overhead_bytes,
            )
            self.state = admission.state
            if admission.is_admitted:
                payloads.append((payload, samples))
            else:
                dropped[OVER_BUDGET] += samples
        return Prepared(payloads, +dropped)


def origin_of(settings: EdgeSettings, *, model: str) -> Origin:
    """How a device's samples travel; `model` is the digest of its bundle."""
    topic = device_topic(settings.group, settings.device, Kind.SAMPLES)
    limit_bytes = settings.message_limit_bytes
    packet = publish_packet_size(topic, bytes(limit_bytes), ROUTES[Kind.SAMPLES].qos)
    return Origin(
        device=settings.device,
        cohort=settings.cohort_name,
        model=model,
        limit_bytes=limit_bytes,
        quality=settings.upload.quality,
        overhead_bytes=packet - limit_bytes + STAMP_BYTES,
    )


def encode_state(state: BudgetState) -> bytes:
    """For the spool."""
    return msgspec.json.encode(state)


def decode_state(content: bytes | None) -> BudgetState | None:
    """What the spool held; None if nothing, or nothing that can be read."""
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=BudgetState)
    except msgspec.MsgspecError:
        return None
