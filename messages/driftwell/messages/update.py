"""Pure. A module update: parameters a device that trains sends back (ECLM).

The message and its bounds are fixed; the cloud answers `not-supported` until it aggregates.
"""

from typing import Annotated

import msgspec

from driftwell.messages.arrays import NamedArrays
from driftwell.messages.envelope import Count, Digest, Envelope


class ModuleUpdate(Envelope, frozen=True, kw_only=True, tag="update"):
    """Changed parameters of one module, relative to the version they started from."""

    module: Digest
    base_version: Count
    samples: Count
    """How many samples the local training saw: the weight in the aggregation."""
    importance: Annotated[float, msgspec.Meta(ge=0, le=1)]
    arrays: NamedArrays
