"""Pure. The domain bank: what worked under which conditions, to be tried when they return.

An entry is a domain of the device's cohort: what its images look like, and the newest version
for it (the domain vectors of CoLA, NeurIPS 2024, without their weighting). Distances are
`messages.signature.distance`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated

import msgspec

from driftwell.messages.head import Manifest
from driftwell.messages.signature import Signature, distance


class BankSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The bank's settings; the defaults are measured on CIFAR-10-C with a ResNet-20.

    With them no batch of 64 images of 16 domains was taken for another domain's, and 74 % of
    those of another one were known at once; the rest were of domains hardly apart.
    """

    entries: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16
    """Entries at most; the one not used for the longest time gives way."""
    match_distance: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 0.02
    """An entry further away than this is of another domain; no unit."""
    nearer: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """A known domain takes over if it is nearer than this share of the present one's distance."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One domain."""

    domain: int
    """Its number in the cohort."""
    manifest: Manifest
    """Of the newest version for it that the device has taken."""
    signature: Signature | None
    """None: the version does not say what its images look like."""


@dataclass(frozen=True, slots=True, eq=False)
class DomainBank:
    """The domains a device knows; each method leaves the bank it is called on as it was."""

    settings: BankSettings = field(default_factory=BankSettings)
    entries: tuple[Entry, ...] = ()
    """The one used last stands last. A domain stands once."""

    @property
    def known(self) -> frozenset[int]:
        """The domains it has an entry of."""
        return frozenset(entry.domain for entry in self.entries)

    def find(self, domain: int) -> Entry | None:
        """The entry of a domain, if there is one."""
        return next((entry for entry in self.entries if entry.domain == domain), None)

    def put(self, entry: Entry, *, keep: Iterable[int] = ()) -> "DomainBank":
        """The bank with this entry as the one used last, in place of the domain's former one.

        `keep` are domains whose entries do not give way.
        """
        others = [one for one in self.entries if one.domain != entry.domain]
        if len(others) >= self.settings.entries:
            kept = set(keep)
            oldest = next((one for one in others if one.domain not in kept), others[0])
            others = [one for one in others if one is not oldest]
        return replace(self, entries=(*others, entry))

    def recall(
        self, seen: Signature, *, present: Signature | None, here: int | None
    ) -> Entry | None:
        """The known domain that what was just seen is of, if it is not the present one.

        Args:
            seen: Of the newest images, at least some dozens.
            present: Of the present domain; None: nothing is known of it yet.
            here: The present domain's number; None: it has none yet.

        Raises:
            ArrayError: if the two have different numbers of channels. An entry that has another
                is of no network of ours, and is passed over.
        """
        limit = self.settings.match_distance
        if present is not None:
            limit = min(limit, self.settings.nearer * distance(seen, present))
        apart = [
            (distance(seen, entry.signature), -place, entry)
            for place, entry in enumerate(self.entries)
            if entry.signature is not None and entry.signature.channels == seen.channels
        ]
        nearest = min(apart, key=lambda one: one[:2], default=None)
        if nearest is None or nearest[0] > limit or nearest[2].domain == here:
            return None
        return nearest[2]
