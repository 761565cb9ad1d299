"""Pure. A module update: what a device that trains learned of one module (ECLM)."""

from typing import Annotated

import msgspec

from driftwell.messages.arrays import NamedArrays
from driftwell.messages.delta import Delta
from driftwell.messages.envelope import Count, Digest, Envelope


class ModuleUpdate(Envelope, frozen=True, kw_only=True, tag="update"):
    """Changed parameters of one module, relative to the piece the training started from."""

    module: Digest
    """The digest of that piece's arrays."""
    base_version: Count
    """The version of the module that it is."""
    samples: Count
    """How many samples the local training saw."""
    importance: Annotated[float, msgspec.Meta(ge=0, le=1)]
    """How much of the device's work the module does: the weight in the aggregation."""
    arrays: NamedArrays = ()
    """The differences as they are, float32, where there is no delta."""
    delta: Delta | msgspec.UnsetType = msgspec.UNSET
    """The differences in few bits; an array's position is that of its name in ascending order."""
