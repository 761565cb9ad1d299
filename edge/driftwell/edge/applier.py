"""Pure. Whether a version may be applied, and to what it leads.

The order of the checks is the order of the attacks they answer: a foreign model or
source (mix and match), an expired version (freeze), a lower one (rollback), and last
altered values (the result digest). A forged head never gets here: `verify_head` comes first.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from driftwell.messages.delta import AdaptableState, apply_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import DeltaError, RefusalCode
from driftwell.messages.head import Manifest
from driftwell.messages.names import split_domain


@dataclass(frozen=True, slots=True)
class Incumbent:
    """What the device is, and what it last took for the domain of its cohort in question."""

    group: str
    cohort: str
    model: str
    source: str
    version: int
    """0 is the source state."""
    result: str
    has_domains: bool = False
    """Whether it takes versions of other domains than its cohort's first."""


def is_news(incumbent: Incumbent, manifest: Manifest) -> bool:
    """Whether a manifest says anything the device does not already run."""
    return (manifest.version, manifest.result) != (incumbent.version, incumbent.result)


def resolve_version(
    incumbent: Incumbent, manifest: Manifest, source: AdaptableState, *, now_ns: int
) -> dict[str, NDArray[np.float32]]:
    """Return the adaptable state `manifest` leads to.

    Args:
        incumbent: What the device runs.
        manifest: Verified, and news.
        source: The bundle's source state; every delta starts from it.
        now_ns: The device's clock, nanoseconds since the Unix epoch.

    Raises:
        DeltaError: with the refusal code; nothing was changed.
        ArrayError: if the delta does not fit the source.
    """
    if manifest.model != incumbent.model:
        raise DeltaError("version is for another model bundle", RefusalCode.WRONG_MODEL)
    cohort, domain = split_domain(manifest.cohort)
    is_ours = (manifest.group, cohort) == (incumbent.group, incumbent.cohort)
    if not is_ours or (domain and not incumbent.has_domains):
        raise DeltaError(f"version is for cohort {manifest.cohort!r}", RefusalCode.WRONG_COHORT)
    if manifest.source != incumbent.source:
        raise DeltaError("version starts from another source state", RefusalCode.WRONG_SOURCE)
    if now_ns >= manifest.expires_ns:
        raise DeltaError(f"version {manifest.version} has expired", RefusalCode.EXPIRED)
    if manifest.version <= incumbent.version and not manifest.rollback:
        raise DeltaError(
            f"version {manifest.version} is not above {incumbent.version}, and is no rollback",
            RefusalCode.OLDER_VERSION,
        )
    state = apply_delta(source, manifest.delta)
    if digest_arrays(state) != manifest.result:
        raise DeltaError("the delta leads to other bits than promised", RefusalCode.WRONG_RESULT)
    return state


def promoted(incumbent: Incumbent, manifest: Manifest) -> Incumbent:
    """What the device is once it runs a version."""
    return replace(incumbent, version=manifest.version, result=manifest.result)
