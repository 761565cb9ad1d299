"""The registry: versions, the configurations that made them, and reverts that were asked for.

Functions of an open ledger, so that a program that only looks needs no owner's rights. Who
writes is in a transaction of the caller.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final

from driftwell.cloud.tables import REVERTS, RevertRequest, StoredVersion

KEEP_VERSIONS: Final = 1000  # a cohort


def upgrade(database: sqlite3.Connection) -> None:
    """Give a ledger of an earlier release what it lacks."""
    database.executescript(REVERTS)
    if "configuration" not in _columns(database, "versions"):
        database.execute("ALTER TABLE versions ADD COLUMN configuration INTEGER")


def add_version(
    database: sqlite3.Connection, version: StoredVersion, configuration: int | None
) -> None:
    """Add a cohort's next version; the oldest above KEEP_VERSIONS goes.

    Args:
        database: The ledger, in a transaction.
        version: Higher than the cohort's others.
        configuration: What `keep_configuration` returned.
    """
    database.execute(
        "INSERT INTO versions (cohort, version, result, manifest, signature, configuration) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            version.cohort,
            version.version,
            version.result,
            version.manifest,
            version.signature,
            configuration,
        ),
    )
    database.execute(
        "DELETE FROM versions WHERE cohort = ? AND version <= ?",
        (version.cohort, version.version - KEEP_VERSIONS),
    )


def renew_version(database: sqlite3.Connection, version: StoredVersion) -> None:
    """Put a version's newly signed manifest in place of the one it had."""
    database.execute(
        "UPDATE versions SET manifest = ?, signature = ? WHERE cohort = ? AND version = ?",
        (version.manifest, version.signature, version.cohort, version.version),
    )


def read_versions(
    database: sqlite3.Connection, cohort: str | None = None
) -> Iterator[StoredVersion]:
    """Versions, oldest first, of one cohort or of all."""
    rows = database.execute(
        "SELECT cohort, version, result, manifest, signature FROM versions "
        "WHERE ?1 IS NULL OR cohort = ?1 ORDER BY cohort, version",
        (cohort,),
    )
    return (StoredVersion(*row) for row in rows)


def read_version(database: sqlite3.Connection, cohort: str, version: int) -> StoredVersion | None:
    """One version; None if it is not there, or not any more."""
    row = database.execute(
        "SELECT cohort, version, result, manifest, signature FROM versions "
        "WHERE cohort = ? AND version = ?",
        (cohort, version),
    ).fetchone()
    return StoredVersion(*row) if row else None


def read_newest_versions(database: sqlite3.Connection) -> list[StoredVersion]:
    """The newest version of each cohort."""
    rows = database.execute(
        "SELECT cohort, max(version), result, manifest, signature FROM versions GROUP BY cohort"
    )
    return [StoredVersion(*row) for row in rows]


def read_cohorts(database: sqlite3.Connection) -> list[str]:
    """Every cohort with a version or with models of its own, by name."""
    rows = database.execute("SELECT cohort FROM versions UNION SELECT cohort FROM cohorts")
    return sorted(str(row[0]) for row in rows)


def keep_configuration(database: sqlite3.Connection, digest: str, document: str) -> int:
    """Keep a configuration and drop those no version refers to.

    Args:
        database: The ledger, in a transaction.
        digest: As in a version's provenance.
        document: JSON.

    Returns:
        What versions made under it refer to.
    """
    database.execute(
        "DELETE FROM configurations WHERE id NOT IN "
        "(SELECT configuration FROM versions WHERE configuration IS NOT NULL)"
    )
    database.execute(
        "INSERT OR IGNORE INTO configurations (digest, document) VALUES (?, ?)", (digest, document)
    )
    row = database.execute(
        "SELECT id FROM configurations WHERE digest = ? AND document = ?", (digest, document)
    ).fetchone()
    return int(row[0])


def read_configuration(database: sqlite3.Connection, cohort: str, version: int) -> str | None:
    """The configuration a version was made under; None if an earlier release made it."""
    if "configuration" not in _columns(database, "versions"):
        return None
    row = database.execute(
        "SELECT document FROM configurations, versions "
        "WHERE configurations.id = configuration AND cohort = ? AND version = ?",
        (cohort, version),
    ).fetchone()
    return str(row[0]) if row else None


def ask_for_revert(database: sqlite3.Connection, cohort: str, version: int) -> int:
    """Leave a request for the cloud, now or at its next start; return the request's id."""
    database.executescript(REVERTS)
    row_id = database.execute(
        "INSERT INTO reverts (cohort, version) VALUES (?, ?)", (cohort, version)
    ).lastrowid
    return row_id or 0


def next_revert(database: sqlite3.Connection) -> RevertRequest | None:
    """The oldest request that waits."""
    row = database.execute("SELECT id, cohort, version FROM reverts ORDER BY id LIMIT 1").fetchone()
    return RevertRequest(*row) if row else None


def is_waiting(database: sqlite3.Connection, request_id: int) -> bool:
    """Whether a request has not been answered yet."""
    row = database.execute("SELECT 1 FROM reverts WHERE id = ?", (request_id,)).fetchone()
    return row is not None


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")}
