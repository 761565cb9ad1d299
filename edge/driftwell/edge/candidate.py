"""Pure. The version that waits for the next batch, and the versions known of other domains."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from driftwell.edge.applier import Incumbent, promoted
from driftwell.edge.bank import Entry
from driftwell.edge.domains import Domains
from driftwell.messages.delta import AdaptableState, apply_delta
from driftwell.messages.head import Manifest


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that is to be installed."""

    manifest: Manifest
    state: dict[str, NDArray[np.float32]]
    is_known: bool = False
    """Whether it comes from the bank."""


def known(entry: Entry, source: AdaptableState) -> Candidate:
    """The version of an entry of the bank; deltas start from `source`."""
    return Candidate(entry.manifest, apply_delta(source, entry.manifest.delta), is_known=True)


def banked(domains: Domains, source: AdaptableState, domain: int) -> Candidate | None:
    """The version the bank has for a domain, if it has one."""
    entry = domains.bank.find(domain)
    return known(entry, source) if entry is not None else None


def last_taken(incumbent: Incumbent, domains: Domains, running_in: int, domain: int) -> Incumbent:
    """What was last taken for a domain: nothing yet is the source.

    Args:
        incumbent: What runs.
        domains: The device's.
        running_in: The domain of the version that runs.
        domain: The one in question.
    """
    entry = domains.bank.find(domain)
    if entry is not None:
        return promoted(incumbent, entry.manifest)
    if domain == running_in:
        return incumbent
    return replace(incumbent, version=0, result=incumbent.source)
