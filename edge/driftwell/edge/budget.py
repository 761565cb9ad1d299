"""Pure. What a device may upload: a share of its samples, and a hard cap on bytes.

Two layers. The *rate* says how choosy the selector should be. It is paced by debt (WISE):
with `share` r, t samples seen and u admitted,

    d = r t - u,    rate = clip(r + d / H, 0, 1)

so that what was not used is carried, and a hard shift that comes late is not starved. If
the caller sends nothing at rate 0, and everything at rate 1 (as `threshold.choose` does),
then after every batch of k samples, whatever the scores are,

    -(r H + (1 - r) k) <= d <= (1 - r) H + r k

which is one batch for H <= k. What is refused is carried as well, up to H samples
and two of the largest batches. A drift adds `drift_samples` to the debt, once: what the cloud
is to learn of the new domain is sent soon, and comes on top of the share.

The *cap* is hard, and in bytes. `bytes_per_day` is a token bucket that holds `burst_bytes`
and fills at `bytes_per_day - burst_bytes` a day. So no window of 24 h holds more than
`bytes_per_day`, the burst included; in the long run the device gets what the bucket fills.
`bytes_total` is compared with a counter that only rises. All of it is integer arithmetic.

One batch: `rate` for the choice, before the batch is counted; then `advance` once; then
`allow` for each message, with its encoded size and before anything is stored. A message that
is refused leaves the state as it was.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

import msgspec

DAY_NS: Final = 86_400_000_000_000

Bytes = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Refusal = Literal["bytes-total", "bytes-per-day", "over-burst"]


class BudgetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device may upload; None: no limit of that kind."""

    share: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """Samples to upload, of those seen."""
    horizon_samples: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 64
    """H: over how many samples a debt is paid back. Larger follows the scores more freely."""
    drift_samples: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 64
    """With `share`: samples on top of it after each drift into a domain that is not known."""
    bytes_per_day: Bytes | None = None
    """Bytes in any 24 h."""
    burst_bytes: Bytes | None = None
    """Of these, how many at once, so also the largest message; None: an eighth."""
    bytes_total: Bytes | None = None
    """Bytes in the life of the state."""

    def __post_init__(self) -> None:
        if self.burst_bytes is not None and self.bytes_per_day is None:
            raise ValueError("burst_bytes is a part of bytes_per_day, which is missing")
        if self.burst_bytes is not None and self.burst_bytes > (self.bytes_per_day or 0):
            raise ValueError("burst_bytes is more than bytes_per_day")

    @property
    def bucket_bytes(self) -> int:
        """What the bucket holds; 0 without `bytes_per_day`."""
        return self.burst_bytes or -(-(self.bytes_per_day or 0) // 8)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What the budget remembers; keep it over restarts, or a restart fills the bucket."""

    debt: float = 0.0
    """d, in samples; below 0 if more was admitted than `share`."""
    largest_batch: int = 0
    """The most samples seen at once."""
    spent_bytes: int = 0
    level: int | None = None
    """What the bucket holds, in bytes times DAY_NS; None: it was never used, and is full."""
    clock_ns: int | None = None
    """The latest time up to which the bucket was filled."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a message may be stored for upload, and the state then."""

    state: BudgetState
    refusal: Refusal | None

    @property
    def is_admitted(self) -> bool:
        """The message may be stored."""
        return self.refusal is None


def advance(settings: BudgetSettings, state: BudgetState, *, seen: int, now_ns: int) -> BudgetState:
    """Count `seen` samples, selected or not, and fill the bucket up to `now_ns`.

    A clock that jumps forward fills the bucket once, which is less than a day's bytes. One
    that goes back by up to a day is waited for, so that one that swings gives nothing away.
    One that goes back further is believed, and the bucket fills from there.

    Raises:
        ValueError: if `seen` is negative.
    """
    if seen < 0:
        raise ValueError(f"{seen} samples seen")
    debt = state.debt + (settings.share or 0.0) * seen
    largest = max(state.largest_batch, seen)
    debt = min(debt, float(settings.horizon_samples + 2 * largest))
    state = replace(state, debt=debt, largest_batch=largest)
    if settings.bytes_per_day is None:
        return state
    full = settings.bucket_bytes * DAY_NS
    before_ns = now_ns if state.clock_ns is None else state.clock_ns
    if now_ns < before_ns - DAY_NS:
        before_ns = now_ns
    elapsed_ns = max(0, now_ns - before_ns)
    level = full if state.level is None else state.level
    level += elapsed_ns * (settings.bytes_per_day - settings.bucket_bytes)
    return replace(state, level=min(level, full), clock_ns=before_ns + elapsed_ns)


def boost(settings: BudgetSettings, state: BudgetState) -> BudgetState:
    """The state after a drift. The caps on bytes stay as they are."""
    if settings.share is None:
        return state
    return replace(state, debt=state.debt + settings.drift_samples)


def rate(settings: BudgetSettings, state: BudgetState) -> float:
    """The share of the next batch to choose, 0 to 1; 1 without `share`. Ask before `advance`."""
    if settings.share is None:
        return 1.0
    return min(1.0, max(0.0, settings.share + state.debt / settings.horizon_samples))


def allow(
    settings: BudgetSettings, state: BudgetState, *, samples: int, size_bytes: int
) -> Admission:
    """Admit a message of `size_bytes` as it goes over the wire, or refuse it.

    A refused message is not booked. To ask only, drop the answer's state. Words of refusal:
    `over-burst` will never fit, `bytes-per-day` will after a while, `bytes-total` will not.

    Raises:
        ValueError: if a number is negative, or `advance` was never called.
    """
    if samples < 0 or size_bytes < 0:
        raise ValueError(f"a message of {samples} samples and {size_bytes} bytes")
    level = state.level
    if settings.bytes_per_day is not None and level is None:
        raise ValueError("the bucket has no clock yet: call advance first")
    refusal = _refusal(settings, state, size_bytes)
    if refusal is not None:
        return Admission(state, refusal)
    admitted = replace(
        state,
        debt=state.debt - samples if settings.share is not None else 0.0,
        spent_bytes=state.spent_bytes + size_bytes,
        level=None if level is None else level - size_bytes * DAY_NS,
    )
    return Admission(admitted, None)


def _refusal(settings: BudgetSettings, state: BudgetState, size_bytes: int) -> Refusal | None:
    total = settings.bytes_total
    if total is not None and state.spent_bytes + size_bytes > total:
        return "bytes-total"
    if settings.bytes_per_day is not None:
        if size_bytes > settings.bucket_bytes:
            return "over-burst"
        if size_bytes * DAY_NS > (state.level or 0):
            return "bytes-per-day"
    return None
