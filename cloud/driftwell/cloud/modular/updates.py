"""Pure. What a device learned of a module, in whichever of the two forms it was sent."""

import msgspec
import numpy as np

from driftwell.cloud.modular.aggregation import Arrays
from driftwell.messages.arrays import unpack_arrays
from driftwell.messages.blob import in_order
from driftwell.messages.delta import Delta, encode_delta
from driftwell.messages.errors import ArrayError
from driftwell.messages.update import ModuleUpdate


def delta_of(update: ModuleUpdate, base: Arrays) -> Delta:
    """The differences of an update, however they came.

    Raises:
        ArrayError: if it holds both forms or none, or they do not fit the module.
    """
    if isinstance(update.delta, Delta) and not update.arrays:
        return update.delta
    given = unpack_arrays(update.arrays)
    ordered = in_order(base)
    fits = given.keys() == ordered.keys() and all(
        given[name].dtype == np.float32 and given[name].shape == array.shape
        for name, array in ordered.items()
    )
    if not fits or update.delta is not msgspec.UNSET:
        raise ArrayError("an update holds either a delta, or float32 differences of all arrays")
    after = {name: array + given[name].astype(np.float32) for name, array in ordered.items()}
    return encode_delta(ordered, after)
