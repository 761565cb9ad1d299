"""Pure. What the bench measured, as JSON."""

from collections.abc import Sequence

import msgspec


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One visit to a domain; accuracies in percent."""

    domain: str
    visit: int
    """0, or 1 if the domain has come back."""
    n: int
    """Images."""
    accuracy: float
    accuracy_first: float
    """Of the domain's images in the first two batches of each device that held any."""
    accuracy_last: float
    """Likewise in the last two."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one stream, or on all streams of a scenario."""

    stream: str
    method: str
    seed: int
    n: int
    """Samples answered."""
    accuracy: float
    """Percent."""
    uploaded: int
    bytes_up: int
    """Every PUBLISH packet of the device, whole; in virtual time its sample batches only."""
    bytes_down: int
    """Every PUBLISH packet to the device, whole; in virtual time versions only."""
    versions_applied: int
    versions_refused: int
    lag_s_p50: float | None
    """Seconds from the newest sample a version learned from to its first answer.

    In virtual time a device sees 30 images a second, and learning takes no time.
    """
    edge_forward_ms: float
    """Mean per batch."""
    edge_other_ms: float
    """Mean per batch: everything the edge does but the forward pass, waiting not counted.

    Not measured in virtual time: 0.
    """
    digests: tuple[str, ...] = ()
    """The result digest of every version the cloud made, in order."""
    key: str = ""
    """16 digits that name everything the result depends on: settings, bundles, streams."""
    software: str = ""
    """Release and code that ran; not part of the key."""
    assignments: tuple[str, ...] = ()
    """Settings the user changed: `edge:KEY=VALUE` and `cloud:KEY=VALUE`; none for a baseline."""
    transport: str = ""
    scenario: str = "reset"
    batch: int = 64
    images: int | None = None
    """Of each stream at most; None: all."""
    devices: int = 1
    pooling: str = "alone"
    delay: int = 0
    """Batches."""
    drop: float = 0.0
    """Probability."""
    budget_bytes: int | None = None
    lost_up: int = 0
    """Sample batches that were sent and never came; their bytes count."""
    lost_down: int = 0
    """Versions likewise, each device counted."""
    accuracy_last_half: float | None = None
    """Percent of the later half of the images."""
    accuracy_by_domain: tuple[Visit, ...] = ()
    spent_s: float = 0.0
    """Real seconds of the whole run."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All results of one run of the bench."""

    results: tuple[Result, ...]


def as_json(results: Sequence[Result]) -> str:
    """One JSON object, indented."""
    encoded = msgspec.json.encode(Report(results=tuple(results)))
    return msgspec.json.format(encoded, indent=2).decode()
