"""Pure. From a cohort's new state to the manifest of its next version."""

from collections.abc import Sequence
from dataclasses import dataclass

from driftwell.messages.delta import AdaptableState, apply_delta, encode_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.head import MAX_BATCHES, Manifest, Provenance


@dataclass(frozen=True, slots=True)
class Lineage:
    """What all versions a cloud makes have in common."""

    group: str
    model: str
    source_digest: str
    source: AdaptableState
    method: str
    config: str
    software: str


def make_manifest(
    lineage: Lineage,
    state: AdaptableState,
    *,
    cohort: str,
    version: int,
    parent: str,
    created_ns: int,
    lifetime_ns: int,
    newest_sample_ns: int,
    trained_samples: int,
    batches: Sequence[str],
) -> Manifest | None:
    """Describe the version that follows `parent`; None if rounding leaves nothing changed.

    The result digest is of the state after the delta's rounding: what the edge will hold.

    Raises:
        ArrayError: if the state is not finite.
    """
    delta = encode_delta(lineage.source, state)
    result = digest_arrays(apply_delta(lineage.source, delta))
    if result == parent:
        return None
    return Manifest(
        group=lineage.group,
        cohort=cohort,
        model=lineage.model,
        source=lineage.source_digest,
        version=version,
        parent=parent,
        result=result,
        created_ns=created_ns,
        expires_ns=created_ns + lifetime_ns,
        newest_sample_ns=newest_sample_ns,
        provenance=Provenance(
            method=lineage.method,
            config=lineage.config,
            software=lineage.software,
            trained_samples=trained_samples,
            batches=tuple(batches[-MAX_BATCHES:]),
        ),
        delta=delta,
    )
