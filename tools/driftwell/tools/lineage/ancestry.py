"""Pure. Which versions a version was made from, one after the other, back to the source state.

A cohort's numbers only rise, but its versions are not one chain: after a revert learning goes
on from the version gone back to, and after a step that diverged from the source state.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from driftwell.cloud.publisher import reverted_to
from driftwell.messages.head import Manifest


@dataclass(frozen=True, slots=True)
class Ancestry:
    """How a version came to be."""

    chain: tuple[int, ...]
    """Oldest first, the version itself last; reverts are left out, for they change nothing."""
    is_whole: bool
    """Whether the source state comes before the first; else what came before is not kept."""


def parent_of(manifest: Manifest, before: Manifest | None) -> int | None:
    """The number of the version that `manifest` was made from.

    Args:
        manifest: Of any version.
        before: The version with the number below; None if it is not kept.

    Returns:
        0 for the source state; None if that version is not kept.
    """
    target = reverted_to(manifest.provenance)
    if target is not None:
        return target
    if manifest.parent == manifest.source:
        return 0
    if before is None:
        return None
    # Counts only rise along a chain: one that fell began anew, after a step that diverged.
    began_anew = manifest.provenance.trained_samples <= before.provenance.trained_samples
    return 0 if began_anew else before.version


def ancestry(manifests: Mapping[int, Manifest], version: int) -> Ancestry:
    """Walk from a version back to the source state, or as far as versions are kept."""
    chain: list[int] = []
    at: int | None = version
    while at:
        manifest = manifests.get(at)
        if manifest is None:
            return Ancestry(tuple(reversed(chain)), is_whole=False)
        if reverted_to(manifest.provenance) is None:
            chain.append(at)
        at = parent_of(manifest, manifests.get(at - 1))
    return Ancestry(tuple(reversed(chain)), is_whole=at == 0)
