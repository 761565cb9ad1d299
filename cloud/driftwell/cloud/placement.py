"""Pure. Which domain of its cohort a device's samples belong to, by what they look like.

A domain is a cohort of its own: its models, its buffer, its versions. A device that knows its
domain says so, and is believed. Otherwise the nearest known domain takes its samples, or
if none is near, a new one. So devices that see the same share what they learn, whoever came
first, and a device that drifts leaves and joins without any device being named.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from driftwell.cloud.settings import DomainSettings
from driftwell.messages.names import domain_name, split_domain
from driftwell.messages.samples import SampleBatch
from driftwell.messages.signature import Signature, distance, unpack_signature

MAX_DEVICES: Final = 10_000
SAMPLING: Final = 0.5
"""Two signatures of n and m images of one domain are about this times (1/n + 1/m) apart by chance:
with a limit of 0.02, 97 of 100 pairs of 64 CIFAR images each are still one domain."""
ENOUGH_IMAGES: Final = 64
"""A signature of fewer says little: it opens no domain, and is not held to."""
CLAIM: Final = 5.0
"""A domain that a device names is believed up to so many times the distance of another one."""
MEMORY_IMAGES: Final = 4096
"""A signature of so many images is as good as one of more."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A device's stay in one domain: where its newest samples went."""

    session: str
    drifts: int
    """As the device counted them."""
    name: str
    """The cohort's, or that of one of its domains."""

    @property
    def domain(self) -> int:
        """The domain's number in its cohort."""
        return split_domain(self.name)[1]


@dataclass(slots=True)
class Placement:
    """Remembers one stay for each device, so that its samples stay together."""

    settings: DomainSettings
    stays: dict[str, Stay] = field(default_factory=dict)

    def place(
        self, batch: SampleBatch, mine: Mapping[str, Signature], *, has_room: bool = True
    ) -> str:
        """The name of the cohort, or of the domain of one, that a sample batch belongs to.

        Args:
            batch: From a device; without a signature it belongs to the cohort it names.
            mine: Signatures of the cohort and its domains, by name; of those that have one.
            has_room: Whether a new domain may be opened.

        Raises:
            ArrayError: if the signature is none.
        """
        if isinstance(batch.signature, msgspec.UnsetType):
            return batch.cohort
        signature = unpack_signature(batch.signature)
        drifts = 0 if isinstance(batch.drifts, msgspec.UnsetType) else batch.drifts
        is_enough = signature.images >= ENOUGH_IMAGES
        name = self._claimed(batch, signature, mine) or self._remembered(batch, drifts)
        if name is None:
            has_room = has_room and is_enough
            name = find_domain(batch.cohort, signature, mine, self.settings, has_room=has_room)
            if not is_enough:
                return name
        self.remember(batch, name)
        return name

    def remember(self, batch: SampleBatch, name: str) -> None:
        """Note where a sample batch went; of more than MAX_DEVICES the oldest is forgotten."""
        drifts = 0 if isinstance(batch.drifts, msgspec.UnsetType) else batch.drifts
        self.stays.pop(batch.device, None)
        self.stays[batch.device] = Stay(batch.session, drifts, name)
        if len(self.stays) > MAX_DEVICES:
            del self.stays[next(iter(self.stays))]  # it is placed anew by its looks

    def told(self, device: str, session: str) -> Stay | None:
        """Where the newest samples of a device's session went."""
        stay = self.stays.get(device)
        return stay if stay is not None and stay.session == session else None

    def _claimed(
        self, batch: SampleBatch, signature: Signature, mine: Mapping[str, Signature]
    ) -> str | None:
        if isinstance(batch.domain, msgspec.UnsetType):
            return None
        name = domain_name(batch.cohort, batch.domain)
        if name not in mine:  # the cloud may have lost what it knew
            return None
        # Or it may count anew since: the number is of another domain then.
        limit = CLAIM * self.settings.match_distance
        return name if _apart(signature, mine[name]) <= limit else None

    def _remembered(self, batch: SampleBatch, drifts: int) -> str | None:
        stay = self.told(batch.device, batch.session)
        if stay is None or stay.drifts != drifts or split_domain(stay.name)[0] != batch.cohort:
            return None
        return stay.name


def find_domain(
    cohort: str,
    signature: Signature,
    mine: Mapping[str, Signature],
    settings: DomainSettings,
    *,
    has_room: bool = True,
) -> str:
    """The nearest domain of a cohort; a new one if none is near and there is room.

    Signatures with another number of channels are of no network of ours: nothing is near them.
    """
    apart = {name: _apart(signature, one) for name, one in mine.items()}
    nearest = min(apart, key=lambda name: (apart[name], name), default=None)
    is_full = len(mine) >= settings.limit or not has_room
    if nearest is not None and (apart[nearest] <= settings.match_distance or is_full):
        return nearest
    names = (domain_name(cohort, number) for number in range(settings.limit))
    return next((name for name in names if name not in mine), cohort)


def _apart(one: Signature, other: Signature) -> float:
    """How far apart they are beyond what chance makes of so few images."""
    if one.channels != other.channels:
        return math.inf
    return distance(one, other) - SAMPLING * (1 / one.images + 1 / other.images)


def better_known(old: Signature | None, new: Signature) -> Signature | None:
    """What is known of a domain after more of it was seen: the signature of more images."""
    if new.images < ENOUGH_IMAGES:
        return old
    if old is not None and old.channels != new.channels:
        return old
    if old is None or new.images >= min(old.images, MEMORY_IMAGES):
        return new
    return old
