"""Pure. Whether the world in front of the camera has changed: two tests on a stream's batches.

Batches are pooled into blocks of at least 64 images. A short window (a moving average of
blocks) is compared with a long reference (the blocks since the last drift):

- statistics: the distance of the two signatures (`signature.distance`);
- output: the difference of the two mean entropies, either way, in nats.

Each number is divided by its threshold, and the block drifts if the two, as the sides of a
right angle, are longer than 1. So one alone is enough, and two halves add up. Asking for
both would miss a change from one hard corruption to another, which leaves the entropy where
it was; the statistics alone miss noise, which a mean over channels hardly sees.

Images that come sorted by class move both numbers without any drift: the mean of a block varies
as that of a block of d times fewer images in random order, where d is the design effect of the
answers (`models.design_effect`). So each threshold is `noise_factor` times what the number was of
late while nothing happened, between a floor and a ceiling, and the floor is higher where images
come in runs: d times that of the distance, which is quadratic in a shift of the mean, and sqrt(d)
times that of the entropy. A stream in random order need not be watched for long before small
changes count.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import msgspec

from driftwell.messages.errors import ArrayError, RefusalCode
from driftwell.messages.signature import Signature, distance, mix, pool

Weight = Annotated[float, msgspec.Meta(gt=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
Cause = Literal["statistics", "output"]


class DriftSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The detector's settings; the defaults are measured on CIFAR-10-C with a ResNet-20."""

    block_images: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 64
    """Images behind one test; a larger batch is a block of its own."""
    warm_up_images: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)] = 256
    """Images behind the reference before anything is tested."""
    short_weight: Weight = 0.75
    """Weight of a block in the short window."""
    reference_weight: Weight = 0.02
    """Least weight of a block in the reference; before, all blocks weigh the same."""
    statistics_floor: Positive = 0.02
    statistics_ceiling: Positive = 0.4
    """Bounds of the threshold on the distance, the floor in random order; no unit."""
    output_floor_nats: Positive = 0.23
    output_ceiling_nats: Positive = 1.0
    """Bounds of the threshold on the change of the mean entropy, nats; chosen for 10 classes."""
    first_factor: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = 2.0
    """A threshold over its floor while nothing is known of its number."""
    noise_factor: Positive = 5.0
    """A threshold over the recent mean of its number."""
    noise_weight: Weight = 0.2
    """Weight of a block in that recent mean."""

    def __post_init__(self) -> None:
        if self.statistics_floor > self.statistics_ceiling:
            raise ValueError("statistics_floor is above statistics_ceiling")
        if self.output_floor_nats > self.output_ceiling_nats:
            raise ValueError("output_floor_nats is above output_ceiling_nats")


@dataclass(frozen=True, slots=True)
class Window:
    """A signature and the mean entropy, nats, of the same images."""

    signature: Signature
    entropy: float


@dataclass(frozen=True, slots=True)
class DriftState:
    """What the detector remembers: three windows and two numbers, however long the stream."""

    block: Window | None = None
    """Images that wait for the block to be full."""
    short: Window | None = None
    reference: Window | None = None
    blocks: int = 0
    """Blocks in the reference's signature."""
    output_images: int = 0
    """Images behind the reference's entropy since a version was swapped."""
    output_blocks: int = 0
    """Blocks of these."""
    statistics_noise: float | None = None
    """Recent mean distance while nothing happened; None: nothing is known."""
    output_noise: float | None = None
    """Recent mean change of the entropy, nats; None: nothing is known."""


@dataclass(frozen=True, slots=True)
class DriftVerdict:
    """What a batch led to. A number is None where it was not tested."""

    state: DriftState
    drifted: bool = False
    cause: Cause | None = None
    distance: float | None = None
    entropy_change: float | None = None
    """Short window minus reference, nats."""


def watch(
    settings: DriftSettings,
    state: DriftState,
    signature: Signature,
    entropy: float,
    *,
    design_effect: float = 1.0,
) -> DriftVerdict:
    """Take one batch.

    After a drift the detector starts anew with the next batch: the block that showed it may
    hold images from before.

    Args:
        settings: The detector's.
        state: As the batch before left it.
        signature: Of the batch, with its number of images.
        entropy: The mean over the batch, nats.
        design_effect: Images of the stream that are worth one, 1 or more; 1 is random order.

    Raises:
        ArrayError: if the entropy is not a number of 0 or more, or the number of channels
            is another than before; the state is as it was.
    """
    if not (math.isfinite(entropy) and entropy >= 0):
        raise ArrayError(f"mean entropy is {entropy}", RefusalCode.NOT_FINITE)
    block = Window(signature, entropy)
    if state.block is not None:
        block = _pooled(state.block, block)
    if block.signature.images < settings.block_images:
        return DriftVerdict(replace(state, block=block))
    output_weight = settings.short_weight if state.output_blocks else 1.0
    short = _mixed(state.short, block, settings.short_weight, output_weight)
    state = replace(state, block=None, short=short)
    if state.reference is None or state.reference.signature.images < settings.warm_up_images:
        return DriftVerdict(_learn(settings, state, block))
    return _test(settings, state, short, state.reference, block, design_effect)


def forget_output(state: DriftState) -> DriftState:
    """The state after a version was swapped: entropies of two versions cannot be compared.

    Images that wait for a full block are left out. The statistics are watched on as before;
    the output again once `warm_up_images` of the version were seen.
    """
    return replace(state, block=None, output_images=0, output_blocks=0)


def thresholds(
    settings: DriftSettings, state: DriftState, design_effect: float = 1.0
) -> tuple[float, float]:
    """The present thresholds: of the distance, and of the entropy's change in nats."""
    return (
        _threshold(
            settings,
            state.statistics_noise,
            settings.statistics_floor * design_effect,
            settings.statistics_ceiling,
        ),
        _threshold(
            settings,
            state.output_noise,
            settings.output_floor_nats * math.sqrt(design_effect),
            settings.output_ceiling_nats,
        ),
    )


def _test(
    settings: DriftSettings,
    state: DriftState,
    short: Window,
    reference: Window,
    block: Window,
    design_effect: float,
) -> DriftVerdict:
    apart = distance(short.signature, reference.signature)
    change: float | None = None
    if state.output_images >= settings.warm_up_images:
        change = short.entropy - reference.entropy
    statistics, output = thresholds(settings, state, design_effect)
    shares = apart / statistics, abs(change or 0.0) / output
    if math.hypot(*shares) > 1:
        cause: Cause = "statistics" if shares[0] > shares[1] else "output"
        return DriftVerdict(DriftState(), True, cause, apart, change)
    state = replace(
        state, statistics_noise=_followed(settings, state.statistics_noise, apart, statistics)
    )
    if change is not None:
        noise = _followed(settings, state.output_noise, abs(change), output)
        state = replace(state, output_noise=noise)
    return DriftVerdict(_learn(settings, state, block), False, None, apart, change)


def _threshold(settings: DriftSettings, noise: float | None, floor: float, ceiling: float) -> float:
    least = settings.first_factor * floor if noise is None else settings.noise_factor * noise
    return min(max(least, floor), ceiling)


def _followed(
    settings: DriftSettings, noise: float | None, value: float, threshold: float
) -> float:
    # The first value moves the noise that the threshold stands for; it does not replace it.
    before = threshold / settings.noise_factor if noise is None else noise
    return before + settings.noise_weight * (value - before)


def _learn(settings: DriftSettings, state: DriftState, block: Window) -> DriftState:
    weight = max(1 / (state.blocks + 1), settings.reference_weight)
    output_weight = max(1 / (state.output_blocks + 1), settings.reference_weight)
    return replace(
        state,
        reference=_mixed(state.reference, block, weight, output_weight),
        blocks=state.blocks + 1,
        output_images=state.output_images + block.signature.images,
        output_blocks=state.output_blocks + 1,
    )


def _pooled(first: Window, second: Window) -> Window:
    both = pool(first.signature, second.signature)
    share = second.signature.images / both.images
    return Window(both, first.entropy + share * (second.entropy - first.entropy))


def _mixed(old: Window | None, new: Window, weight: float, output_weight: float) -> Window:
    if old is None:
        return new
    entropy = old.entropy + output_weight * (new.entropy - old.entropy)
    return Window(mix(old.signature, new.signature, weight), entropy)
