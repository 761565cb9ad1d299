"""Pure. Ed25519 signatures over the bytes of a manifest, and its one reader.

A manifest is decoded only after its signature is verified, so that what an attacker
without the key can reach is one signature check.
"""

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from driftwell.messages.errors import DeltaError, MalformedError, RefusalCode
from driftwell.messages.head import Head, Manifest

_manifest: Final[msgspec.msgpack.Decoder[Manifest]] = msgspec.msgpack.Decoder(Manifest)


def sign_manifest(manifest: Manifest, key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    """Return the manifest's bytes and the 64-byte signature over them."""
    encoded = msgspec.msgpack.encode(manifest)
    return encoded, key.sign(encoded)


def verify_head(head: Head, trusted_key: bytes) -> Manifest:
    """Check the signature against the key the edge trusts, then read the manifest.

    Args:
        head: As it came off the wire.
        trusted_key: Raw Ed25519 public key, 32 bytes.

    Raises:
        DeltaError: `untrusted-key` if the head claims another key, `bad-signature` if the
            bytes were altered.
        MalformedError: if correctly signed bytes are no manifest.
    """
    if head.key != trusted_key:
        raise DeltaError("head is signed with a key we do not trust", RefusalCode.UNTRUSTED_KEY)
    try:
        Ed25519PublicKey.from_public_bytes(trusted_key).verify(head.signature, head.manifest)
    except InvalidSignature:
        raise DeltaError("head was altered after signing", RefusalCode.BAD_SIGNATURE) from None
    return read_manifest(head.manifest)


def read_manifest(encoded: bytes) -> Manifest:
    """Read a manifest whose bytes are trusted already, such as those of one's own registry.

    Raises:
        MalformedError: if they are no manifest.
    """
    try:
        return _manifest.decode(encoded)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedError(f"these bytes are no manifest: {error}") from error
