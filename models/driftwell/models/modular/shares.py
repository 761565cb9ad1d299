"""Which channels of the whole model's arrays a sub-model holds.

In a sub-model the wide arrays of a module layer, those that all its modules share, are as wide
as the modules it holds. What the cloud says about the whole model's arrays is meant for these
channels of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftwell.models.modular.module_layer import Place


@dataclass(frozen=True, slots=True, eq=False)
class ChannelShare:
    """Some channels of an array of the whole model."""

    axis: int
    channels: NDArray[np.int64]
    """Rising within a module; none: the bypass alone is held, and a stand-in of one channel."""
    of: int
    """Channels of the whole array."""


Shares = Mapping[str, ChannelShare | None]
"""By array; None: it is no module layer's, and the sub-model has it whole."""


def channel_shares(
    whole: Sequence[Place], held: Sequence[Place], names: Iterable[str]
) -> dict[str, ChannelShare | None]:
    """What of each array a sub-model has.

    Args:
        whole: The module layers of the whole model.
        held: Those of the sub-model.
        names: Of arrays in a modular network's state.
    """
    wide: list[tuple[str, ChannelShare]] = []
    for all_of, some in zip(whole, held, strict=True):
        index = np.concatenate(
            [
                np.arange(start, start + width, dtype=np.int64)
                for module, start, width in zip(
                    all_of.held, all_of.starts, all_of.widths, strict=True
                )
                if module in some.held
            ]
        )
        total = sum(all_of.widths)
        wide += [
            (f"trunk.{part}.", ChannelShare(0, index, total))
            for part in (all_of.first, all_of.norm)
            if part is not None
        ]
        wide.append((f"trunk.{all_of.second}.layer.weight", ChannelShare(1, index, total)))
    return {
        name: next((share for prefix, share in wide if name.startswith(prefix)), None)
        for name in names
    }


def take_shares(
    state: Mapping[str, NDArray[np.float32]],
    shares: Shares,
    held: Mapping[str, NDArray[np.float32]],
) -> dict[str, NDArray[np.float32]]:
    """A sub-model's part of a state of the whole model.

    Args:
        state: Of the whole model.
        shares: Of its arrays.
        held: The sub-model's present state: stand-ins stay as they are.
    """
    taken = {}
    for name, share in shares.items():
        if share is None:
            taken[name] = np.array(state[name])
        elif not len(share.channels):
            taken[name] = np.array(held[name])
        else:
            taken[name] = np.ascontiguousarray(state[name].take(share.channels, axis=share.axis))
    return taken


def whole_shape(shape: tuple[int, ...], share: ChannelShare | None) -> tuple[int, ...]:
    """The shape that a sub-model's array has in the whole model."""
    if share is None:
        return shape
    return (*shape[: share.axis], share.of, *shape[share.axis + 1 :])
