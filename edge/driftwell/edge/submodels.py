"""Pure. Whether a sub-model may be taken, and which pieces it is made of.

The order of the checks is that of a head: a foreign model or device, an expired sub-model, one
that is not newer, and last one that is none of this bundle's. A forged one never gets here:
`verify_submodel` comes first. Whether the pieces are what they claim is asked of each as it comes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import ArrayError, DeltaError, RefusalCode
from driftwell.messages.submodel import SubModelManifest

NO_ARRAYS: Final = digest_arrays({})
"""The piece of a bypass, which nobody has to fetch."""
SPARE_BYTES: Final = 65_536
"""What a content may take beyond its values: names, shapes, frames."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who the device is, and what its bundle is made of."""

    group: str
    device: str
    model: str
    """The digest of its modular bundle."""
    values: tuple[tuple[int, ...], ...]
    """For each module layer the numbers of each module's arrays; 0: a bypass."""

    def limit_bytes(self, layer: int, module: int) -> int:
        """What the content of a module may take at most."""
        return 4 * self.values[layer][module] + SPARE_BYTES


@dataclass(frozen=True, slots=True)
class Part:
    """One module of a sub-model, in one version."""

    layer: int
    module: int
    version: int
    piece: str
    """The digest of its arrays."""


def is_repeat(known: SubModelManifest | None, manifest: SubModelManifest) -> bool:
    """Whether a manifest says nothing but what the newest one taken said."""
    return known is not None and (known.version, known.layers) == (
        manifest.version, manifest.layers,
    )  # fmt: skip


def resolve_submodel(
    owner: Owner, newest: int, manifest: SubModelManifest, *, now_ns: int
) -> tuple[Part, ...]:
    """Return what a sub-model is made of, layer by layer.

    Args:
        owner: Who is to take it.
        newest: The version of the newest sub-model it has taken; 0: none.
        manifest: Verified, and no repeat.
        now_ns: The device's clock, nanoseconds since the Unix epoch.

    Raises:
        DeltaError: with the refusal code.
        ArrayError: if layers or modules are not the bundle's.
    """
    if manifest.model != owner.model:
        raise DeltaError("sub-model is of another bundle", RefusalCode.WRONG_MODEL)
    if (manifest.group, manifest.device) != (owner.group, owner.device):
        raise DeltaError(
            f"sub-model is for device {manifest.device!r} of group {manifest.group!r}",
            RefusalCode.WRONG_COHORT,
        )
    if now_ns >= manifest.expires_ns:
        raise DeltaError(f"sub-model {manifest.version} has expired", RefusalCode.EXPIRED)
    if manifest.version <= newest:
        raise DeltaError(
            f"sub-model {manifest.version} is not above {newest}", RefusalCode.OLDER_VERSION
        )
    return parts_of(owner, manifest)


def parts_of(owner: Owner, manifest: SubModelManifest) -> tuple[Part, ...]:
    """The modules of a manifest, layer by layer.

    Raises:
        ArrayError: if layers or modules are not the bundle's.
    """
    if len(manifest.layers) != len(owner.values):
        raise ArrayError(
            f"sub-model has {len(manifest.layers)} module layers, the bundle {len(owner.values)}"
        )
    parts = []
    for number, (layer, values) in enumerate(zip(manifest.layers, owner.values, strict=True)):
        modules = [ref.module for ref in layer]
        if not modules or any(low >= high for low, high in pairwise((-1, *modules, len(values)))):
            raise ArrayError(f"modules {modules} of layer {number} are none of the bundle's")
        for ref in layer:
            if (values[ref.module] == 0) != (ref.piece == NO_ARRAYS):
                raise ArrayError(f"piece of module {ref.module} of layer {number} cannot be right")
            parts.append(Part(number, ref.module, ref.version, ref.piece))
    return tuple(parts)


def chosen_of(manifest: SubModelManifest) -> tuple[tuple[int, ...], ...]:
    """For each module layer the numbers of its modules."""
    return tuple(tuple(ref.module for ref in layer) for layer in manifest.layers)


def require_room(owner: Owner, parts: Iterable[Part], *, limit_bytes: int) -> None:
    """Whether a sub-model's pieces fit on the disk.

    Args:
        owner: Whose disk.
        parts: Of that sub-model and the one that runs, but for those in the bundle.
        limit_bytes: Of all pieces together.

    Raises:
        ArrayError: `too-large` if not.
    """
    pieces = {part.piece: 4 * owner.values[part.layer][part.module] for part in parts}
    size_bytes = sum(pieces.values())
    if size_bytes > limit_bytes:
        raise ArrayError(
            f"the sub-model and the one that runs take {size_bytes} bytes of pieces, "
            f"pieces.limit_bytes allows {limit_bytes}",
            RefusalCode.TOO_LARGE,
        )
