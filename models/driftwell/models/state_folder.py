"""A program's state folder: one owner at a time, and SQLite opened one way.

Both daemons keep what must survive a `kill -9` in one SQLite file (write-ahead log). The
owner holds an exclusive transaction on a second, empty database: the operating system
releases it however the process ends, on every platform, and no stale lock is left.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from driftwell.messages.errors import SettingsError


@contextmanager
def own_folder(path: Path) -> Iterator[Path]:
    """Make the folder and own it.

    Raises:
        SettingsError: if it cannot be made, or another running program owns it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = sqlite3.connect(path / "owner.lock", timeout=0, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(f"state folder {path} cannot be used: {error}") from error
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise SettingsError(
                f"state folder {path} is in use by another running program; "
                "stop it or choose another folder"
            ) from None
        yield path
    finally:
        lock.close()


def open_database(
    path: Path, schema: str, *, survives_power_failure: bool = False
) -> sqlite3.Connection:
    """Open a database whose every commit survives the death of this process.

    Args:
        path: The file, made if it is not there.
        schema: SQL that makes the tables if they are not there.
        survives_power_failure: Wait for the disk at every commit.

    Raises:
        SettingsError: if the file is damaged or not a database.
    """
    try:
        database = sqlite3.connect(path, timeout=5, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={'FULL' if survives_power_failure else 'NORMAL'}")
        database.executescript(schema)
    except sqlite3.Error as error:
        raise SettingsError(
            f"{path} cannot be opened ({error}); move it away to begin anew"
        ) from error
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All statements inside or none; rolled back on any exception."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # on a full disk SQLite may have rolled back by itself
            database.execute("ROLLBACK")
        raise
