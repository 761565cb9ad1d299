"""Tiny modular bundles, and what a cloud says of their sub-models and pieces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from tests import tiny, tiny_modular

from driftwell.messages.blob import Arrays, Blob, Fetch, chunks, encode_steps, encode_whole
from driftwell.messages.delta import apply_delta, encode_delta
from driftwell.messages.digest import digest_arrays, digest_bytes
from driftwell.messages.signing import sign_manifest
from driftwell.messages.submodel import ModuleRef, SubModel, SubModelManifest
from driftwell.models.bundle import Bundle
from driftwell.models.modular.bundle import ModularBundle, open_modular
from driftwell.models.modular.writing import create_modular_bundle, write_device_copy

DEVICE: Final = "cam-1"


@dataclass(frozen=True, slots=True)
class Bundles:
    """What the cloud has, and what a device begins with."""

    whole: Bundle
    cloud: ModularBundle
    device: ModularBundle


def make_bundles(folder: Path) -> Bundles:
    """Cut a network with reproducible weights, and write both."""
    base = tiny_modular.make_blocks(folder)
    whole = create_modular_bundle(
        folder / "whole", base=base, network=tiny_modular.cut_blocks(base)
    )
    device = write_device_copy(whole, folder / "device")
    return Bundles(whole, open_modular(whole.path), device)


def pieces_of(cloud: ModularBundle) -> dict[str, Arrays]:
    """All modules of a whole bundle, by their digests."""
    pieces = {}
    for layer, modules in enumerate(cloud.spec.modules):
        for module, piece in enumerate(modules):
            arrays = cloud.module_arrays(layer, module)
            assert arrays is not None
            pieces[piece] = arrays
    return pieces


def make_manifest(
    cloud: ModularBundle,
    version: int,
    chosen: tuple[tuple[int, ...], ...],
    **changed: object,
) -> SubModelManifest:
    """A sub-model of the bundle's own modules."""
    fields: dict[str, object] = {
        "group": "default",
        "device": DEVICE,
        "model": cloud.digest,
        "version": version,
        "created_ns": tiny.NOW_NS,
        "expires_ns": tiny.NOW_NS + tiny.DAY_NS,
        "layers": tuple(
            tuple(
                ModuleRef(module=module, version=0, piece=cloud.spec.modules[layer][module])
                for module in modules
            )
            for layer, modules in enumerate(chosen)
        ),
        "costs": {"memory_bytes": 1000.0 * sum(map(len, chosen))},
        "limits": {},
    }
    return SubModelManifest(**{**fields, **changed})  # type: ignore[arg-type]


def make_submodel(manifest: SubModelManifest, key: Ed25519PrivateKey = tiny.KEY) -> SubModel:
    """The signed message."""
    encoded, signature = sign_manifest(manifest, key)
    return SubModel(
        device=manifest.device,
        session=tiny.CLOUD_SESSION,
        seq=1,
        clock_ns=tiny.NOW_NS,
        model=manifest.model,
        manifest=encoded,
        signature=signature,
        key=key.public_key().public_bytes_raw(),
    )


def moved_piece(
    arrays: Arrays, by: float = 0.25
) -> tuple[dict[str, NDArray[np.float32]], bytes, str]:
    """A later version of a piece: its arrays, the content that leads there, its digest."""
    before = {name: arrays[name] for name in sorted(arrays)}
    delta = encode_delta(before, {name: array + np.float32(by) for name, array in before.items()})
    after = apply_delta(before, delta)
    return after, encode_steps((delta,)), digest_arrays(after)


def make_blobs(
    piece: str, content: bytes, *, base: str | None = None, offset: int = 0, size: int = 65_536
) -> list[Blob]:
    """A content from an offset on in chunks of a size."""
    return [
        Blob(
            device=DEVICE,
            session=tiny.CLOUD_SESSION,
            seq=1,
            clock_ns=tiny.NOW_NS,
            model="0" * 64,
            piece=piece,
            base=msgspec.UNSET if base is None else base,
            content=digest_bytes(content),
            size_bytes=len(content),
            offset=start,
            data=content[start : start + size],
        )
        for start in range(offset, len(content), size)
    ]


def answer(fetch: Fetch, pieces: dict[str, Arrays]) -> list[Blob]:
    """What a cloud that has these pieces sends for a question."""
    blobs = []
    for want in fetch.wants:
        content = encode_whole(pieces[want.piece])
        is_begun = want.content == digest_bytes(content)
        offset = want.offset if is_begun else 0
        assert list(chunks(content, offset=offset))
        blobs += make_blobs(want.piece, content, offset=offset)
    return blobs
