"""Pure. The domain bank: what worked under which conditions, to be tried when they return.

An entry is a domain's signature, a key that names what is stored, and a value that only the
caller reads: a digest, or a reference to a version's state (the domain vectors of CoLA,
NeurIPS 2024, without their weighting). Distances are `signature.distance`.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Final

import msgspec

from driftwell.edge.signature import Signature, distance, pool
from driftwell.messages.errors import TooLargeError

MAX_KEY_BYTES: Final = 256
MAX_VALUE_BYTES: Final = 4096
MEMORY_IMAGES: Final = 4096
"""An entry's signature weighs at most so many images, so that it can follow its domain."""


class BankSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bank's settings; the defaults are measured on CIFAR-10-C with a ResNet-20."""

    entries: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    """Entries at most; the one not used for the longest time gives way."""
    match_distance: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 0.01
    """An entry further away than this is of another domain; no unit."""
    merge_distance: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.001
    """Entries no further apart than this become one; no unit."""

    def __post_init__(self) -> None:
        if self.merge_distance > self.match_distance:
            raise ValueError("merge_distance is above match_distance")


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One domain."""

    signature: Signature
    key: str
    value: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """The nearest entry, and how far away it is."""

    entry: Entry
    distance: float


@dataclass(frozen=True, slots=True, eq=False)
class DomainBank:
    """The domains a device knows; each method leaves the bank it is called on as it was."""

    settings: BankSettings = field(default_factory=BankSettings)
    entries: tuple[Entry, ...] = ()
    """The one used last stands last. A key stands once."""

    def nearest(self, signature: Signature) -> Match | None:
        """The nearest entry no further than `match_distance`; of equally near ones the last used.

        Raises:
            ArrayError: if the signature has another number of channels than the bank's.
        """
        return self._nearest(signature, self.settings.match_distance)

    def remember(self, signature: Signature, key: str, value: bytes) -> "DomainBank":
        """The bank with this domain in it, as the one used last.

        An entry of the same key gives way. The nearest entry within `merge_distance` gives its
        images to the signature and gives way, too: the newer value is for the same domain.

        Raises:
            ArrayError: if the signature has another number of channels than the bank's.
            TooLargeError: if the key is over MAX_KEY_BYTES, or the value over MAX_VALUE_BYTES.
        """
        for size_bytes, limit_bytes in (
            (len(key.encode()), MAX_KEY_BYTES),
            (len(value), MAX_VALUE_BYTES),
        ):
            if size_bytes > limit_bytes:
                raise TooLargeError(size_bytes, limit_bytes)
        near = self._nearest(signature, self.settings.merge_distance)
        kept = self.entries
        if near is not None:
            signature = pool(near.entry.signature, signature)
            kept = tuple(entry for entry in kept if entry is not near.entry)
        kept = tuple(entry for entry in kept if entry.key != key)
        signature = replace(signature, images=min(signature.images, MEMORY_IMAGES))
        kept = (*kept, Entry(signature, key, value))
        return replace(self, entries=kept[-self.settings.entries :])

    def used(self, key: str) -> "DomainBank":
        """The bank in which the entry of `key` is the one used last; the same bank without it."""
        found = tuple(entry for entry in self.entries if entry.key == key)
        others = tuple(entry for entry in self.entries if entry.key != key)
        return replace(self, entries=others + found)

    def _nearest(self, signature: Signature, limit: float) -> Match | None:
        matches = [Match(e, distance(signature, e.signature)) for e in reversed(self.entries)]
        match = min(matches, key=lambda match: match.distance, default=None)
        return match if match is not None and match.distance <= limit else None
