"""Pure. The head: the signed manifest of the newest version, retained for late joiners.

The manifest travels as the very bytes that were signed, so no canonical form is needed.
"""

from typing import Annotated, Final

import msgspec

from driftwell.messages.delta import Delta
from driftwell.messages.envelope import (
    MAX_COUNT,
    CohortName,
    Count,
    Digest,
    Envelope,
    Name,
    Nanoseconds,
)
from driftwell.messages.signature import PackedSignature

MAX_BATCHES: Final = 64
"""Sample batches a manifest names; a version that learned from more names the last ones."""


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version comes from."""

    method: Annotated[str, msgspec.Meta(max_length=48)]
    config: Annotated[str, msgspec.Meta(max_length=64)]
    """First 16 digits of the digest of the method's settings."""
    software: Annotated[str, msgspec.Meta(max_length=48)]
    trained_samples: Count
    """Samples the lineage has learned from so far."""
    batches: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=96)], ...],
        msgspec.Meta(max_length=MAX_BATCHES),
    ]
    """`device/session/seq` of those new since the parent."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is, whom it is for, and the delta itself."""

    group: Name
    cohort: CohortName
    """The cohort, or the domain of one."""
    model: Digest
    """The bundle it is for."""
    source: Digest
    """The adaptable state the delta is added to."""
    version: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
    parent: Digest
    """The result of the version before; the source for the first."""
    result: Digest
    """The adaptable state it leads to, bit for bit."""
    created_ns: Nanoseconds
    expires_ns: Nanoseconds
    newest_sample_ns: Nanoseconds
    """The device clock of the newest sample batch it learned from."""
    rollback: bool = False
    """Signed permission to apply a version lower than the present one."""
    signature: PackedSignature | msgspec.UnsetType = msgspec.UNSET
    """What the images look like that it is for; absent where domains are not kept apart."""
    provenance: Provenance
    delta: Delta


class Head(Envelope, frozen=True, kw_only=True, tag="head"):
    """A manifest's bytes and the Ed25519 signature over exactly these bytes."""

    manifest: bytes
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    """The public key it claims; trusted only if the edge already trusts it."""
