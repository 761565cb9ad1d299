"""Pure. From chosen samples to the messages that may be stored for upload.

One place for the order that a budget demands: the choice is made with `UploadBudget.rate`,
then the batch is counted, then each encoded message is admitted or refused by its size.
"""

from collections import Counter
from dataclasses import dataclass

import msgspec

from driftwell.broker.connection import publish_packet_size
from driftwell.edge.budget import BudgetSettings, BudgetState, advance, allow, boost, rate
from driftwell.edge.packing import STAMP_BYTES, Selection, pack_selection
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

    def __init__(self, settings: BudgetSettings, state: BudgetState | None = None) -> None:
        self._settings = settings
        self.state = state or BudgetState()

    @property
    def rate(self) -> float:
        """The share of the next batch to choose, 0 to 1."""
        return rate(self._settings, self.state)

    def prepare(
        self,
        selection: Selection,
        origin: Origin,
        *,
        seen: int,
        clock_ns: int,
        has_drifted: bool = False,
    ) -> Prepared:
        """Encode what was chosen of `seen` images, and admit what the budget allows.

        With `has_drifted` there is more room from here on (`budget.boost`).
        """
        if has_drifted:
            self.state = boost(self._settings, self.state)
        self.state = advance(self._settings, self.state, seen=seen, now_ns=clock_ns)
        packed, too_large = pack_selection(
            selection,
            device=origin.device,
            cohort=origin.cohort,
            model=origin.model,
            clock_ns=clock_ns,
            limit_bytes=origin.limit_bytes,
            quality=origin.quality,
        )
        dropped = Counter({TOO_LARGE: too_large})
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
