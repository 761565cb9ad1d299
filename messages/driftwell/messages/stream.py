"""Pure. The stream batch: all images of one inferred batch, and what the device answered.

It travels into recordings only, never over a network: with it a recording can be answered
again, by another version or with another filter.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.arrays import NamedArray, NamedArrays, pack_arrays, unpack_arrays
from driftwell.messages.envelope import Count, Envelope, Name
from driftwell.messages.errors import ArrayError
from driftwell.messages.images import PackedImages

STREAM_COLUMNS: Final = {
    "index": "<u8",
    "prediction": "<u2",
    "entropy": "<f4",
    "verdict": "|u1",
}
"""What is said of each image: position in the stream, class, nats, the filter's verdict."""
LABEL: Final = "label"
"""A further column, `<u2`, where the stream has labels: the true class."""


class StreamBatch(Envelope, frozen=True, kw_only=True, tag="stream"):
    """One batch of a device's stream, whole."""

    cohort: Name
    version: Count
    """The version that answered."""
    images: PackedImages
    columns: NamedArrays

    @property
    def count(self) -> int:
        """How many images the batch holds."""
        return self.images.shape[0]


def pack_stream_columns(
    index: NDArray[np.uint64],
    prediction: NDArray[np.uint16],
    entropy: NDArray[np.float32],
    verdict: NDArray[np.uint8],
    label: NDArray[np.uint16] | None,
) -> tuple[NamedArray, ...]:
    """Put the columns, each of shape (N,), into their wire form."""
    columns: dict[str, NDArray[np.generic]] = {
        "index": index, "prediction": prediction, "entropy": entropy, "verdict": verdict,
    }  # fmt: skip
    if label is not None:
        columns[LABEL] = label
    return pack_arrays(columns)


def unpack_stream_columns(batch: StreamBatch) -> dict[str, NDArray[np.generic]]:
    """Give the columns back, each of shape (N,); `label` only where there is one.

    Raises:
        ArrayError: if one is missing, or of another dtype or length.
    """
    columns = unpack_arrays(batch.columns)
    wanted = STREAM_COLUMNS | ({LABEL: "<u2"} if LABEL in columns else {})
    for name, dtype in wanted.items():
        column = columns.get(name)
        if column is None or column.dtype.str != dtype or column.shape != (batch.count,):
            raise ArrayError(f"column {name!r} must be {dtype} of shape ({batch.count},)")
    return columns
