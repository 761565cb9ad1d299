"""Pure. What a device is sent for a piece that it lacks."""

from collections.abc import Iterator

import msgspec

from driftwell.cloud.modular.catalogue import Address, Catalogue, ModuleVersion
from driftwell.messages.blob import CHUNK_BYTES, Want, chunks, encode_steps, encode_whole
from driftwell.messages.digest import digest_bytes
from driftwell.messages.errors import DeltaError, RefusalCode

Chunk = tuple[str | msgspec.UnsetType, str, int, int, bytes]
"""Base, content, size of the content in bytes, offset and data of a `Blob`."""


def serve(catalogue: Catalogue, want: Want, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """The chunks that lead a device to a piece, from where it broke off.

    Differences if the device holds a version that they lead from, and they are shorter than the
    piece; else the piece itself.

    Args:
        catalogue: The modules.
        want: What the device lacks, and what it holds.
        chunk_bytes: Of a content in a chunk at most, above 0.

    Raises:
        DeltaError: `older-version` if the piece is no longer kept, `wrong-source` if it is not
            known, or is of another module.
    """
    address = want.layer, want.module
    version = catalogue.kept(address, want.piece)
    if version is None:
        catalogue.find(want.piece)  # refuses what is too old or unknown
        raise DeltaError(f"piece {want.piece[:12]} is of another module", RefusalCode.WRONG_SOURCE)
    base: str | msgspec.UnsetType = msgspec.UNSET
    content = b""
    if not isinstance(want.have, msgspec.UnsetType):
        content = _steps(catalogue, address, want.have, version)
        base = want.have if content else base
    content = content or encode_whole(version.arrays)
    name = digest_bytes(content)
    offset = want.offset if want.content == name and want.offset < len(content) else 0
    for start, data in chunks(content, offset=offset, chunk_bytes=chunk_bytes):
        yield base, name, len(content), start, data


def _steps(catalogue: Catalogue, address: Address, have: str, version: ModuleVersion) -> bytes:
    """The differences from a piece to a version of its module; empty: none lead there."""
    held = catalogue.kept(address, have)
    deltas = None if held is None else catalogue.steps(address, held.number, version.number)
    return encode_steps(deltas) if deltas else b""
