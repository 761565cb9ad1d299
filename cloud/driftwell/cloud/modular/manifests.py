"""Pure. Which modules a sub-model names, in which versions, and what became of these since."""

from collections.abc import Sequence

from driftwell.cloud.modular.catalogue import Catalogue
from driftwell.messages.submodel import ModuleRef, SubModelManifest


def references(
    chosen: Sequence[frozenset[int]], catalogue: Catalogue
) -> tuple[tuple[ModuleRef, ...], ...]:
    """The chosen modules of each layer in their newest versions, ascending."""
    return tuple(
        tuple(
            ModuleRef(
                module=module,
                version=catalogue.newest((layer, module)).number,
                piece=catalogue.newest((layer, module)).piece,
            )
            for module in sorted(modules)
        )
        for layer, modules in enumerate(chosen)
    )


def chosen_of(manifest: SubModelManifest) -> tuple[frozenset[int], ...]:
    """The modules of each layer of a sub-model."""
    return tuple(frozenset(ref.module for ref in refs) for refs in manifest.layers)


def has_news(manifest: SubModelManifest, catalogue: Catalogue) -> bool:
    """Whether a module of a sub-model has a newer version."""
    return any(
        catalogue.version((layer, ref.module)) > ref.version
        for layer, refs in enumerate(manifest.layers)
        for ref in refs
    )


def is_served(manifest: SubModelManifest, catalogue: Catalogue) -> bool:
    """Whether all pieces of a sub-model are kept, so that a device which lacks them gets them."""
    return all(
        catalogue.kept((layer, ref.module), ref.piece) is not None
        for layer, refs in enumerate(manifest.layers)
        for ref in refs
    )


def is_half_over(manifest: SubModelManifest, now_ns: int) -> bool:
    """Whether half of the time has passed in which a device may take a sub-model."""
    return now_ns - manifest.created_ns >= (manifest.expires_ns - manifest.created_ns) // 2
