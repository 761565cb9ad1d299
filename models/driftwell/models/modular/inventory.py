"""What a modular bundle is made of, piece by piece, whether it is there or not."""

from dataclasses import dataclass

from driftwell.models.modular.bundle import ModularBundle
from driftwell.models.modular.folder import held_pieces
from driftwell.models.modular.pieces import read_module


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One module of one layer."""

    layer: int
    module: int
    place: str
    """The first of the two layers it is a part of, by name."""
    digest: str
    values: int
    """In its arrays, float32; the bypass has none."""
    is_held: bool
    """Whether its file is there; of the bypass, always."""
    is_fallback: bool

    @property
    def size_bytes(self) -> int:
        """Of its arrays."""
        return 4 * self.values


def list_modules(bundle: ModularBundle) -> tuple[ModuleEntry, ...]:
    """All modules of a bundle, layer by layer.

    Raises:
        BundleError: if there is a file that is no module's.
    """
    held = held_pieces(bundle.path, bundle.spec)
    skeleton = bundle.skeleton()
    return tuple(
        ModuleEntry(
            layer,
            module,
            place.first,
            digest := bundle.spec.modules[layer][module],
            sum(array.size for array in read_module(skeleton, layer, module).values()),
            digest in held,
            module in bundle.spec.fallback[layer],
        )
        for layer, place in enumerate(bundle.places)
        for module in place.held
    )


def trunk_values(bundle: ModularBundle) -> int:
    """Values in trunk and selector, float32."""
    return sum(array.size for array in bundle.trunk.values())
