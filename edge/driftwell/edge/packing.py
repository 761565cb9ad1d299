"""Pure. From selected samples to sample batches under the message limit.

Batches are encoded once for the spool, without a number; `stamp` numbers one each time it
is sent, so that `oldest_seq` is always the present one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.edge.domains import Place
from driftwell.messages.codec import decode, encode
from driftwell.messages.errors import MalformedError
from driftwell.messages.images import Pixels, pack_images
from driftwell.messages.samples import SampleBatch, pack_columns
from driftwell.messages.signature import pack_signature

STAMP_BYTES: Final = 32  # what the two sequence numbers may add when a batch is stamped
UNSENT_SESSION: Final = "0" * 16


@dataclass(frozen=True, slots=True)
class Selection:
    """Selected samples of one inferred batch; arrays of one length N."""

    images: Pixels
    index: NDArray[np.uint64]
    entropy: NDArray[np.float32]
    prediction: NDArray[np.uint16]
    place: Place | None = None
    """In which domain they came; None: the device does not watch for drift."""

    def __len__(self) -> int:
        return len(self.index)

    def is_beside(self, other: "Selection") -> bool:
        """Whether both are of one domain, so that they may share a message."""
        here, there = self.place, other.place
        if here is None or there is None:
            return here is there
        return (here.drifts, here.domain) == (there.drifts, there.domain)

    def part(self, start: int, stop: int) -> "Selection":
        """The samples from `start` up to, not including, `stop`."""
        cut = slice(start, stop)
        return Selection(
            self.images[cut],
            self.index[cut],
            self.entropy[cut],
            self.prediction[cut],
            self.place,
        )


def join_selections(selections: Iterable[Selection]) -> list[Selection]:
    """One of each run of neighbours in one domain, where its last one was; empty ones vanish."""
    runs: list[list[Selection]] = []
    for one in selections:
        if runs and runs[-1][-1].is_beside(one):
            runs[-1].append(one)
        else:
            runs.append([one])
    joined = [
        Selection(
            np.concatenate([one.images for one in run]),
            np.concatenate([one.index for one in run]),
            np.concatenate([one.entropy for one in run]),
            np.concatenate([one.prediction for one in run]),
            run[-1].place,
        )
        for run in runs
    ]
    return [one for one in joined if len(one)]


def pack_selection(
    selection: Selection,
    *,
    device: str,
    cohort: str,
    model: str,
    clock_ns: int,
    limit_bytes: int,
    quality: int | None = None,
) -> tuple[list[tuple[bytes, int]], int]:
    """Encode a selection as few batches as the limit allows, halving what is too large.

    `quality` is that of `pack_images`: 1 to 95, or None for images without loss.

    Returns:
        Encoded batches with their sample counts, in order, and the number of samples left
        out because one alone is over the limit.
    """
    if len(selection) == 0:
        return [], 0
    batch = SampleBatch(
        device=device,
        cohort=cohort,
        session=UNSENT_SESSION,
        seq=0,
        clock_ns=clock_ns,
        model=model,
        oldest_seq=0,
        images=pack_images(selection.images, quality=quality),
        columns=pack_columns(selection.index, selection.entropy, selection.prediction),
        **_placing(selection.place),
    )
    payload = msgspec.msgpack.encode(batch)
    if len(payload) + STAMP_BYTES <= limit_bytes:
        return [(payload, len(selection))], 0
    if len(selection) == 1:
        return [], 1
    batches: list[tuple[bytes, int]] = []
    left_out = 0
    middle = (len(selection) + 1) // 2
    for start, stop in ((0, middle), (middle, len(selection))):
        more, too_large = pack_selection(
            selection.part(start, stop),
            device=device, cohort=cohort, model=model, clock_ns=clock_ns, limit_bytes=limit_bytes,
            quality=quality,
        )  # fmt: skip
        batches += more
        left_out += too_large
    return batches, left_out


def _placing(place: Place | None) -> dict[str, Any]:
    """The fields of a sample batch that say where it was taken."""
    if place is None:
        return {}
    return {
        "drifts": place.drifts or msgspec.UNSET,
        "domain": msgspec.UNSET if place.domain is None else place.domain,
        "signature": pack_signature(place.signature),
    }


def stamp(payload: bytes, *, session: str, seq: int, oldest_seq: int, limit_bytes: int) -> bytes:
    """Number an encoded batch for sending.

    Raises:
        WireError: if the spool's bytes are damaged or over the present limit.
    """
    batch = decode(payload, limit_bytes=limit_bytes)
    if not isinstance(batch, SampleBatch):
        raise MalformedError(f"the spool holds a {type(batch).__name__}")
    numbered = msgspec.structs.replace(batch, session=session, seq=seq, oldest_seq=oldest_seq)
    return encode(numbered, limit_bytes=limit_bytes)
