"""Pure. The sample batch: images the edge's filter selected, with what the edge thought."""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.messages.arrays import (
    NamedArray,
    NamedArrays,
    pack_arrays,
    require_finite,
    unpack_arrays,
)
from driftwell.messages.envelope import Count, Domain, Envelope, Name
from driftwell.messages.errors import ArrayError
from driftwell.messages.images import PackedImages
from driftwell.messages.signature import PackedSignature

COLUMNS: Final = {"index": "<u8", "entropy": "<f4", "prediction": "<u2"}
"""What is said of each image: position in the device's stream, nats, class."""


class SampleBatch(Envelope, frozen=True, kw_only=True, tag="samples"):
    """Selected images, one message, one fate in the ledger: `(device, session, seq)`."""

    oldest_seq: Count
    """The lowest seq of this session the edge still holds; all below are settled there."""
    cohort: Name
    """Whose adapted state the samples are for; the device's own name unless it shares one."""
    images: PackedImages
    columns: NamedArrays
    drifts: Count | msgspec.UnsetType = msgspec.UNSET
    """How often the device had left a domain when it took the images; absent before the first."""
    domain: Domain | msgspec.UnsetType = msgspec.UNSET
    """The cohort's domain the images are of; absent while the device does not know it."""
    signature: PackedSignature | msgspec.UnsetType = msgspec.UNSET
    """What the images of this domain look like to the device, by which the cloud finds their
    domain; absent from a device that does not watch for drift."""

    @property
    def count(self) -> int:
        """How many images the batch holds."""
        return self.images.shape[0]


def pack_columns(
    index: NDArray[np.uint64], entropy: NDArray[np.float32], prediction: NDArray[np.uint16]
) -> tuple[NamedArray, ...]:
    """Put the three columns, each of shape (N,), into their wire form."""
    return pack_arrays({"index": index, "entropy": entropy, "prediction": prediction})


def unpack_columns(batch: SampleBatch) -> dict[str, NDArray[np.generic]]:
    """Give the columns back, each of shape (N,) and of the dtype `COLUMNS` says.

    Raises:
        ArrayError: if one is missing, of another dtype or length, or not finite.
    """
    columns = unpack_arrays(batch.columns)
    for name, dtype in COLUMNS.items():
        column = columns.get(name)
        if column is None or column.dtype.str != dtype or column.shape != (batch.count,):
            raise ArrayError(f"column {name!r} must be {dtype} of shape ({batch.count},)")
        require_finite(name, column)
    return columns


def require_image_shape(batch: SampleBatch, expected: tuple[int, int, int]) -> None:
    """Check height, width and channels before anything is unpacked.

    Raises:
        ArrayError: if the images are not of the shape the model takes.
    """
    if batch.images.shape[1:] != expected:
        raise ArrayError(f"images are {batch.images.shape[1:]}, the model takes {expected}")
