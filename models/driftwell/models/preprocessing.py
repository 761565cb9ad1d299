"""Pure. How uint8 pixels become a network's input; part of the bundle, digest and all.

Edge and cloud refuse to work with different preprocessing, because a wrong mean or a
swapped channel order costs accuracy silently.
"""

from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftwell.messages.digest import digest_bytes

PerChannel = Annotated[tuple[float, ...], msgspec.Meta(min_length=1, max_length=64)]


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`(pixels / 255 - mean) / std`, channel by channel, then channels first."""

    mean: PerChannel
    std: PerChannel

    @property
    def digest(self) -> str:
        """Names the preprocessing by what it computes."""
        return digest_bytes(msgspec.json.encode(self))

    def as_affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`scale` and `shift`, each (C,), with `input = pixels * scale + shift`."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
