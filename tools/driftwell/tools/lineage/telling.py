"""Pure. A version in words and numbers, for people and for programs."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from driftwell.messages.head import MAX_BATCHES, Manifest

DIGITS: Final = 12
"""Of a digest, where a person reads it."""
DAY_S: Final = 86_400
_UNITS: Final = ((DAY_S, "d"), (3600, "h"), (60, "min"))


def devices_of(manifest: Manifest) -> dict[str, int]:
    """From which device how many of the batches named in the manifest came, most first."""
    counts = Counter(batch.split("/", 1)[0] for batch in manifest.provenance.batches)
    return dict(counts.most_common())


def log_document(manifest: Manifest) -> dict[str, Any]:
    """What `log` says of a version, for programs."""
    provenance = manifest.provenance
    return {
        "cohort": manifest.cohort,
        "version": manifest.version,
        "result": manifest.result,
        "parent": manifest.parent,
        "created_ns": manifest.created_ns,
        "expires_ns": manifest.expires_ns,
        "method": provenance.method,
        "config": provenance.config,
        "software": provenance.software,
        "trained_samples": provenance.trained_samples,
        "batches": list(provenance.batches),
        "devices": devices_of(manifest),
    }


def log_row(manifest: Manifest, *, now_ns: int) -> tuple[str, ...]:
    """What `log` says of a version, for people: the columns of LOG_COLUMNS."""
    provenance = manifest.provenance
    return (
        manifest.cohort,
        str(manifest.version),
        manifest.result[:DIGITS],
        "source" if manifest.parent == manifest.source else manifest.parent[:DIGITS],
        when(manifest.created_ns),
        provenance.method,
        str(provenance.trained_samples),
        _batch_count(manifest),
        ", ".join(devices_of(manifest)) or "-",
        duration((now_ns - manifest.created_ns) / 1e9),
        expiry(manifest, now_ns=now_ns),
    )


LOG_COLUMNS: Final = (
    "cohort", "version", "result", "parent", "made", "method", "samples", "batches", "devices",
    "age", "expires",
)  # fmt: skip


def show_rows(
    manifest: Manifest, *, configuration: str | None, signature: str, now_ns: int
) -> list[tuple[str, str]]:
    """Everything a manifest says, name by name, and what the ledger knows beside it."""
    provenance, delta = manifest.provenance, manifest.delta
    devices = [
        f"{device} ({count} batch{'es' if count > 1 else ''})"
        for device, count in devices_of(manifest).items()
    ]
    return [
        ("version", f"{manifest.version} of cohort {manifest.cohort}, group {manifest.group}"),
        ("result", manifest.result),
        ("parent", manifest.parent),
        ("source", manifest.source),
        ("model", manifest.model),
        ("made", f"{when(manifest.created_ns)} UTC"),
        ("expires", f"{when(manifest.expires_ns)} UTC ({expiry(manifest, now_ns=now_ns)})"),
        ("newest sample", f"{when(manifest.newest_sample_ns)} UTC by its device's clock"),
        ("method", provenance.method),
        ("samples", f"{provenance.trained_samples} since the source state"),
        ("devices", ", ".join(devices) or "none"),
        ("batches", _batch_count(manifest)),
        *(("", batch) for batch in provenance.batches),
        ("configuration", provenance.config),
        *_configuration_rows(configuration),
        ("code", provenance.software),
        ("delta", f"{len(delta.values)} bytes of {delta.encoding} in {len(delta.entries)} arrays"),
        ("rollback", "yes" if manifest.rollback else "no"),
        ("signature", signature),
    ]


def as_lines(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values below each other."""
    return "\n".join(f"{name:14} {value}".rstrip() for name, value in rows)


def when(time_ns: int) -> str:
    """A moment, to the second."""
    try:
        return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # a clock may say anything
        return f"{time_ns} ns"


def expiry(manifest: Manifest, *, now_ns: int) -> str:
    """How long a version may still be applied."""
    left_s = (manifest.expires_ns - now_ns) / 1e9
    return f"in {duration(left_s)}" if left_s > 0 else "expired"


def duration(seconds: float) -> str:
    """A length of time in one unit, such as `3.5 h`; none if a clock is behind another."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _batch_count(manifest: Manifest) -> str:
    count = len(manifest.provenance.batches)
    return f"{count} or more" if count == MAX_BATCHES else str(count)


def _configuration_rows(configuration: str | None) -> list[tuple[str, str]]:
    if configuration is None:
        return [("", "the ledger does not hold it: an earlier release made the version")]
    document: dict[str, Any] = msgspec.json.decode(configuration)
    return [("", f"{name} = {value}") for name, value in _flat(document)]


def _flat(document: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in document.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows
