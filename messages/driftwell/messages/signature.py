"""Pure. Signatures of a domain: what the stem's features look like, and how far two are apart.

A signature is the mean and the variance of each channel in front of the first
normalisation layer, as the source's weights give them, so that a version changes no
signature. The distance is the symmetric Kullback-Leibler divergence of the two diagonal
Gaussians, averaged over channels (the domain statistic of CoLA, NeurIPS 2024):

    D = mean_c 1/2 (KL(a_c || b_c) + KL(b_c || a_c))
      = mean_c 1/4 (v_a/v_b + v_b/v_a - 2 + (m_a - m_b)^2 (1/v_a + 1/v_b))
"""

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from driftwell.messages.envelope import Count
from driftwell.messages.errors import ArrayError, RefusalCode

MAX_CHANNELS: Final = 4096
VARIANCE_FLOOR: Final = 1e-8
"""Stands for any smaller variance in a distance: a dead channel is like another dead one."""
Moments = Annotated[bytes, msgspec.Meta(min_length=4, max_length=4 * MAX_CHANNELS)]
_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """Moments of `images` images; `mean` and `variance` are read-only float64 of shape (C,)."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    images: int

    @property
    def channels(self) -> int:
        """C."""
        return int(self.mean.shape[0])


def make_signature(mean: ArrayLike, variance: ArrayLike, *, images: int) -> Signature:
    """A signature of moments over all pixels of `images` images, each of shape (C,).

    Raises:
        ArrayError: if a shape is not (C,) with 1 <= C <= MAX_CHANNELS, a value is not a
            finite float32, a variance is negative, or there is no image.
    """
    with np.errstate(invalid="ignore"):  # a NaN that signals would warn before it is refused
        means, variances = (np.array(moment, dtype=np.float64) for moment in (mean, variance))
    if means.ndim != 1 or means.shape != variances.shape or not 0 < means.size <= MAX_CHANNELS:
        raise ArrayError(f"a signature has shapes {means.shape} and {variances.shape}")
    # Written so that NaN fails, too.
    if not ((np.abs(means) <= _LARGEST).all() and (np.abs(variances) <= _LARGEST).all()):
        raise ArrayError("a signature is not finite", RefusalCode.NOT_FINITE)
    if (variances < 0).any() or images < 1:
        raise ArrayError("a signature has a negative variance, or no image behind it")
    return _frozen(means, variances, images)


class PackedSignature(msgspec.Struct, frozen=True, kw_only=True):
    """A signature as it travels."""

    mean: Moments
    """float32, little endian, (C,)."""
    variance: Moments
    images: Count


def pack_signature(signature: Signature) -> PackedSignature:
    """Put a signature into its wire form; float32 is what it was measured in."""
    return PackedSignature(
        mean=signature.mean.astype("<f4").tobytes(),
        variance=signature.variance.astype("<f4").tobytes(),
        images=signature.images,
    )


def unpack_signature(packed: PackedSignature) -> Signature:
    """Give it back.

    Raises:
        ArrayError: if it is none, as `make_signature` says.
    """
    if len(packed.mean) % 4 or len(packed.variance) % 4:
        raise ArrayError("a signature is no array of float32")
    mean, variance = (np.frombuffer(part, "<f4") for part in (packed.mean, packed.variance))
    return make_signature(mean, variance, images=packed.images)


def mix(old: Signature, new: Signature, weight: float) -> Signature:
    """The moments of a mixture with `weight`, 0 to 1, of `new`; its images are those of both.

    Raises:
        ArrayError: if the numbers of channels differ.
    """
    _require_same_channels(old, new)
    mean = old.mean + weight * (new.mean - old.mean)
    within = old.variance + weight * (new.variance - old.variance)
    between = weight * (1 - weight) * (new.mean - old.mean) ** 2
    variance = np.minimum(within + between, _LARGEST)
    return _frozen(mean, variance, old.images + new.images)


def pool(first: Signature, second: Signature) -> Signature:
    """The signature of the images of both, each image with the same weight."""
    return mix(first, second, second.images / (first.images + second.images))


def distance(first: Signature, second: Signature) -> float:
    """D of the module's head, finite and at least 0; 0 for equal moments.

    Raises:
        ArrayError: if the numbers of channels differ.
    """
    _require_same_channels(first, second)
    a = np.maximum(first.variance, VARIANCE_FLOOR)
    b = np.maximum(second.variance, VARIANCE_FLOOR)
    spread = a / b + b / a - 2
    shift = (first.mean - second.mean) ** 2 * (1 / a + 1 / b)
    return max(0.0, float(np.mean(spread + shift)) / 4)


def _frozen(mean: NDArray[np.float64], variance: NDArray[np.float64], images: int) -> Signature:
    mean.setflags(write=False)
    variance.setflags(write=False)
    return Signature(mean, variance, images)


def _require_same_channels(first: Signature, second: Signature) -> None:
    if first.channels != second.channels:
        raise ArrayError(f"signatures of {first.channels} and {second.channels} channels")
