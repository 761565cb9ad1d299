"""The cloud's Ed25519 key, made on first use, in its state folder."""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from driftwell.messages.errors import SettingsError

FILE: Final = "signing.key"


def signing_key(folder: Path) -> Ed25519PrivateKey:
    """Read the key, or make one that only this user may read.

    Raises:
        SettingsError: if the file is no key. It is never replaced: devices trust it.
    """
    file = folder / FILE
    if not file.exists():
        key = Ed25519PrivateKey.generate()
        partial = file.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(key.private_bytes_raw().hex() + "\n", encoding="ascii")
        partial.replace(file)
        return key
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(file.read_text("ascii").strip()))
    except ValueError as error:
        raise SettingsError(
            f"{file} is not a signing key ({error}); restore it from a backup, or remove it and "
            "tell every device to trust the new one"
        ) from error


def public_key(key: Ed25519PrivateKey) -> bytes:
    """The raw public key, 32 bytes: what an edge trusts."""
    return key.public_key().public_bytes_raw()
