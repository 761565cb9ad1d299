"""Pure. The ledger's tables and their rows."""

from dataclasses import dataclass
from typing import Final

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS sessions (
    device TEXT NOT NULL, session TEXT NOT NULL,
    stored_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device, session)
);
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL, session TEXT NOT NULL, seq INTEGER NOT NULL,
    cohort TEXT NOT NULL,
    samples INTEGER NOT NULL,
    used INTEGER NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND samples),
    clock_ns INTEGER NOT NULL,
    payload BLOB NOT NULL,
    UNIQUE (device, session, seq)
);
CREATE INDEX IF NOT EXISTS batches_of_cohort ON batches (cohort, id);
CREATE TABLE IF NOT EXISTS refusals (
    device TEXT NOT NULL, session TEXT NOT NULL, seq INTEGER NOT NULL, code TEXT NOT NULL,
    PRIMARY KEY (device, session, seq)
);
CREATE TABLE IF NOT EXISTS books (
    device TEXT NOT NULL, entry TEXT NOT NULL, samples INTEGER NOT NULL,
    PRIMARY KEY (device, entry)
);
CREATE TABLE IF NOT EXISTS cohorts (cohort TEXT PRIMARY KEY, models BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    cohort TEXT NOT NULL, version INTEGER NOT NULL, result TEXT NOT NULL,
    manifest BLOB NOT NULL, signature BLOB NOT NULL,
    configuration INTEGER,
    PRIMARY KEY (cohort, version)
);
CREATE TABLE IF NOT EXISTS configurations (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL, document TEXT NOT NULL,
    UNIQUE (digest, document)
);
CREATE TABLE IF NOT EXISTS owner (model TEXT PRIMARY KEY);
"""

REVERTS: Final = """
CREATE TABLE IF NOT EXISTS reverts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, cohort TEXT NOT NULL, version INTEGER NOT NULL
);
"""
"""A table of its own: whoever asks for a revert makes it if an older cloud did not."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch in the ledger, in its cohort's order."""

    id: int
    device: str
    session: str
    seq: int
    samples: int
    used: int
    """How many of its samples, from the first on, have their fate."""
    clock_ns: int
    payload: bytes

    @property
    def name(self) -> str:
        """As it stands in a version's provenance."""
        return f"{self.device}/{self.session}/{self.seq}"


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version in the registry: its manifest's signed bytes."""

    cohort: str
    version: int
    result: str
    manifest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class RevertRequest:
    """Somebody wants a cohort to go back."""

    id: int
    cohort: str
    version: int
    """To what this version leads to; 0 is the source state."""


LIST_VERSIONS: Final = "SELECT cohort, version, result FROM versions ORDER BY cohort, version"
"""Every version in the registry, oldest first."""
