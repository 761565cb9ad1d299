"""Pure. The sub-model of one device: which modules it is to run, signed and retained.

Pieces are named by the digest of their arrays, so a device fetches only those it lacks (`blob`),
and checks each against the name that stands here under the cloud's signature.
"""

from typing import Annotated, Final

import msgspec

from driftwell.messages.envelope import MAX_COUNT, Count, Digest, Envelope, Name, Nanoseconds
from driftwell.messages.telemetry import MAX_LAYERS, MAX_MODULES

MAX_RESOURCES: Final = 16

Number = Annotated[int, msgspec.Meta(ge=0, lt=MAX_MODULES)]
Amounts = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=32)], Annotated[float, msgspec.Meta(ge=0)]],
    msgspec.Meta(max_length=MAX_RESOURCES),
]


class ModuleRef(msgspec.Struct, frozen=True, kw_only=True):
    """One module of a sub-model, in one version."""

    module: Number
    """Its number in its layer."""
    version: Count
    """Of this module; 0 is the bundle's."""
    piece: Digest
    """The digest of its arrays; that of no arrays for a bypass."""


ModuleLayer = Annotated[tuple[ModuleRef, ...], msgspec.Meta(min_length=1, max_length=MAX_MODULES)]


class SubModelManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is to run, and what it was planned with."""

    group: Name
    device: Name
    model: Digest
    """The modular bundle it is of."""
    version: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
    """Rises with every sub-model of this device; the same may be signed anew, to expire later."""
    created_ns: Nanoseconds
    expires_ns: Nanoseconds
    layers: Annotated[tuple[ModuleLayer, ...], msgspec.Meta(min_length=1, max_length=MAX_LAYERS)]
    """For each module layer of the bundle its modules, ascending."""
    costs: Amounts
    """What it takes of each resource: bytes, and the device's milliseconds, as reckoned here."""
    limits: Amounts
    """The device's limits it was planned with, in the same units."""


class SubModel(Envelope, frozen=True, kw_only=True, tag="submodel"):
    """A manifest's bytes and the Ed25519 signature over exactly these bytes, as in a head."""

    manifest: bytes
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
