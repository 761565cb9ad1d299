"""Pure. Ed25519 signatures over the bytes of a manifest, and its one reader.

A manifest is decoded only after its signature is verified, so that what an attacker
without the key can reach is one signature check.
"""

from typing import Final, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from driftwell.messages.errors import DeltaError, MalformedError, RefusalCode
from driftwell.messages.head import Head, Manifest
from driftwell.messages.submodel import SubModel, SubModelManifest

_T = TypeVar("_T")

_manifest: Final[msgspec.msgpack.Decoder[Manifest]] = msgspec.msgpack.Decoder(Manifest)
_submodel: Final[msgspec.msgpack.Decoder[SubModelManifest]] = msgspec.msgpack.Decoder(
    SubModelManifest
)


def sign_manifest(
    manifest: Manifest | SubModelManifest, key: Ed25519PrivateKey
) -> tuple[bytes, bytes]:
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
    _verify(head, trusted_key)
    return read_manifest(head.manifest)


def verify_submodel(submodel: SubModel, trusted_key: bytes) -> SubModelManifest:
    """The same for the sub-model of a device; arguments and errors are those of `verify_head`."""
    _verify(submodel, trusted_key)
    return read_submodel(submodel.manifest)


def read_manifest(encoded: bytes) -> Manifest:
    """Read a manifest whose bytes are trusted already, such as those of one's own registry.

    Raises:
        MalformedError: if they are no manifest.
    """
    return _read(_manifest, encoded)


def read_submodel(encoded: bytes) -> SubModelManifest:
    """Read the manifest of a sub-model whose bytes are trusted already.

    Raises:
        MalformedError: if they are none.
    """
    return _read(_submodel, encoded)


def _verify(signed: Head | SubModel, trusted_key: bytes) -> None:
    if signed.key != trusted_key:
        raise DeltaError("signed with a key we do not trust", RefusalCode.UNTRUSTED_KEY)
    try:
        Ed25519PublicKey.from_public_bytes(trusted_key).verify(signed.signature, signed.manifest)
    except InvalidSignature:
        raise DeltaError("altered after signing", RefusalCode.BAD_SIGNATURE) from None


def _read(decoder: msgspec.msgpack.Decoder[_T], encoded: bytes) -> _T:
    try:
        return decoder.decode(encoded)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedError(f"these bytes are no manifest: {error}") from error
