"""In which domain a device is: whether it has drifted, and whether it has been here before.

Two questions are asked of every block of images, in this order. Is this a domain the
bank knows, rather than the present one? Then its version answers at once, this batch included.
Has the present domain ended (`drift`)? Then the device is nowhere: the cloud says where
its samples went, from what they look like, or the bank knows it after all.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from driftwell.edge.bank import BankSettings, DomainBank, Entry
from driftwell.edge.drift import DriftSettings, DriftState, DriftVerdict, forget_output, watch
from driftwell.messages.head import Manifest
from driftwell.messages.names import split_domain
from driftwell.messages.signature import Signature, mix, pool, unpack_signature

MEMORY_IMAGES: Final = 4096
"""The present domain's signature weighs its images over about so many, so that it can follow."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch was taken, as its sample batch says it."""

    drifts: int
    """How often the stream had drifted or gone back to a known domain, this batch included."""
    domain: int | None
    """The cohort's domain; None: not known yet."""
    signature: Signature
    """Of the domain's images so far."""


class Domains:
    """A device's domains; not thread safe."""

    def __init__(self, drift: DriftSettings | None, bank: BankSettings) -> None:
        """Begin in the cohort's first domain, as long as nobody says otherwise.

        `drift` is how it watches; None: it does not, and never leaves the first domain.
        """
        self._settings = drift
        self._state = DriftState()
        self._block: Signature | None = None
        self._present: Signature | None = None
        self.bank = DomainBank(bank)
        self.drifts = 0
        self.domain: int | None = 0
        """Whose versions it takes; None: nobody's, since it drifted."""
        self.is_placed = False
        """Whether cloud or bank have said that this is its domain."""

    @property
    def is_watching(self) -> bool:
        """Whether it looks for other domains than the first."""
        return self._settings is not None

    @property
    def place(self) -> Place | None:
        """For the samples of the batch just seen; None: it does not watch, or has seen nothing."""
        if self._present is None:
            return None
        return Place(self.drifts, self.domain if self.is_placed else None, self._present)

    def recall(self, seen: Signature) -> Entry | None:
        """The known domain the device is in now, if that is another than before; then it moves.

        Raises:
            ArrayError: if the signature has another number of channels than before.
        """
        if self._settings is None:
            return None
        block = seen if self._block is None else pool(self._block, seen)
        if block.images < self._settings.block_images:
            self._block = block
            return None
        self._block = None
        # Of a domain that nobody has named yet too little is known to be compared with.
        entry = self.bank.recall(
            block,
            present=self._present if self.is_placed else None,
            here=self.domain if self.is_placed else None,
        )
        if entry is None:
            return None
        self.bank = self.bank.put(entry)
        if entry.domain == self.domain:  # where it took itself to be anyway
            self.is_placed = True
            return None
        self._leave()
        self.domain, self.is_placed = entry.domain, True
        return entry

    def watch(
        self, seen: Signature, entropy: float, *, design_effect: float = 1.0
    ) -> DriftVerdict | None:
        """Take a batch in: its signature, its mean entropy in nats, and how many images are one.

        Raises:
            ArrayError: as `drift.watch`; nothing has changed.
        """
        if self._settings is None:
            return None
        verdict = watch(self._settings, self._state, seen, entropy, design_effect=design_effect)
        self._state = verdict.state
        if verdict.drifted:
            self._leave()
            self.domain, self.is_placed = None, False
        self._present = seen if self._present is None else _followed(self._present, seen)
        return verdict

    def take_place(self, drifts: int, domain: int) -> bool:
        """Take the cloud's word on samples of so many drifts; whether the device moves by it."""
        if drifts != self.drifts or not self.is_watching:
            return False
        is_news = domain != self.domain
        self.domain, self.is_placed = domain, True
        return is_news

    def learned(self, manifest: Manifest) -> None:
        """Keep a version for its domain.

        Raises:
            ArrayError: if what it says of its images is no signature.
        """
        domain = split_domain(manifest.cohort)[1]
        packed = manifest.signature
        signature = None if isinstance(packed, msgspec.UnsetType) else unpack_signature(packed)
        entry = Entry(domain, manifest, signature)
        self.bank = self.bank.put(entry, keep=() if self.domain is None else (self.domain,))

    def swapped(self) -> None:
        """Another version answers from now on."""
        self._state = forget_output(self._state)

    def _leave(self) -> None:
        self.drifts += 1
        self._state = DriftState()
        self._present = self._block = None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What a device keeps of its domains over a restart, beside the heads of the known ones."""

    cohort: str
    model: str
    """Of another cohort or bundle nothing of it is true any more."""
    drifts: int
    domain: int | None
    is_placed: bool
    running: int
    """The domain of the version that answers."""
    known: list[int]
    """Domains in the bank; the one used last stands last."""


def decode_memory(content: bytes | None) -> Memory | None:
    """What the spool held; None if nothing, or nothing that can be read."""
    try:
        return msgspec.json.decode(content or b"", type=Memory)
    except msgspec.MsgspecError:
        return None


def _followed(old: Signature, new: Signature) -> Signature:
    if old.images + new.images <= MEMORY_IMAGES:
        return pool(old, new)
    return mix(old, new, min(1.0, new.images / MEMORY_IMAGES))
