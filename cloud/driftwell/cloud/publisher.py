"""Pure. From a cohort's new state, or one it goes back to, to the manifest of its next version."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from driftwell.messages.delta import AdaptableState, Delta, apply_delta, encode_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import DeltaError, RefusalCode
from driftwell.messages.head import MAX_BATCHES, Manifest, Provenance

_REVERT: Final = re.compile(r"revert to (\d+)")


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
    delta: Delta | None = None,
) -> Manifest | None:
    """Describe the version that follows `parent`; None if rounding leaves nothing changed.

    The result digest is of the state after the delta's rounding: what the edge will hold.
    `delta` is how the state travels, if that is decided already; it leads to `state`.

    Raises:
        ArrayError: if the state is not finite.
    """
    delta = delta or encode_delta(lineage.source, state)
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


def make_revert(
    lineage: Lineage,
    target: Manifest | None,
    *,
    cohort: str,
    version: int,
    parent: str,
    created_ns: int,
    lifetime_ns: int,
) -> Manifest:
    """Describe a new version that leads to what an earlier one led to.

    Args:
        lineage: What all versions of the cloud have in common.
        target: The earlier version; None is the source state.
        cohort: Whose versions they are.
        version: The new one's number, above all others.
        parent: The result of the newest version.
        created_ns: Now, nanoseconds since the Unix epoch.
        lifetime_ns: How long it may be applied.

    Raises:
        WireError: if the earlier version does not lead from this source to what it promised.
    """
    delta = target.delta if target else encode_delta(lineage.source, lineage.source)
    result = digest_arrays(apply_delta(lineage.source, delta))
    if result != (target.result if target else lineage.source_digest):
        raise DeltaError("the version leads to other bits than it did", RefusalCode.WRONG_RESULT)
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
        # The source learned from no sample; 0 would read as a lag of half a century.
        newest_sample_ns=target.newest_sample_ns if target else created_ns,
        provenance=Provenance(
            method=f"revert to {target.version if target else 0}",
            config=lineage.config,
            software=lineage.software,
            trained_samples=target.provenance.trained_samples if target else 0,
            batches=(),
        ),
        delta=delta,
    )


def reverted_to(provenance: Provenance) -> int | None:
    """Which version a revert went back to; None if the version is no revert."""
    match = _REVERT.fullmatch(provenance.method)  # a method's own name has no spaces
    return int(match[1]) if match else None
