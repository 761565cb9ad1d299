"""The spool: selected samples on disk until the cloud has stored them, and the books.

One transaction holds a batch's samples, their count as `selected` and the position in the
stream, so a `kill -9` between any two lines neither loses a sample nor counts it twice.
A full disk costs samples (booked as dropped), never an answer.
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from driftwell.edge.outbox import Entry
from driftwell.messages.errors import SettingsError
from driftwell.models.state_folder import open_database, transaction

DATABASE: Final = "edge.sqlite"
DEVICE: Final = "device"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    samples INTEGER NOT NULL,
    session TEXT NOT NULL DEFAULT '',
    seq INTEGER NOT NULL DEFAULT 0,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS books (entry TEXT PRIMARY KEY, samples INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS memory (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""

Payload = tuple[bytes, int]
"""An encoded sample batch and how many samples it holds."""


class Spool:
    """One device's spool in its state folder. Not thread safe: one loop owns it."""

    def __init__(self, folder: Path, device: str) -> None:
        """Open the spool of `device`.

        Raises:
            SettingsError: if the folder holds another device's, or the file is damaged.
        """
        self.folder = folder
        self._database = open_database(folder / DATABASE, _SCHEMA)
        self._unsaved: dict[str, bytes] = {}
        owner = self.recall(DEVICE)
        if owner not in (None, device.encode()):
            self._database.close()
            raise SettingsError(
                f"state folder {folder} is of device {bytes(owner or b'').decode()!r}, not "
                f"{device!r}: give each device a folder of its own"
            )
        self.remember(DEVICE, device.encode())
        self._booked = Counter(
            dict(self._database.execute("SELECT entry, samples FROM books").fetchall())
        )
        self._unbooked: Counter[str] = Counter()
        self._late: list[tuple[Entry, str]] = []
        self._held = sum(entry.samples for entry in self.entries())

    def close(self) -> None:
        """Close the file; everything committed is safe already."""
        self._database.close()

    def entries(self) -> list[Entry]:
        """What an earlier run left, by age."""
        rows = self._database.execute(
            "SELECT id, samples, length(payload), session, seq FROM batches ORDER BY id"
        )
        return [
            Entry(row_id, samples, size, session, seq, is_doubtful=bool(session))
            for row_id, samples, size, session, seq in rows
        ]

    def add(
        self,
        payloads: Iterable[Payload],
        *,
        booked: Mapping[str, int],
        remembered: Mapping[str, bytes],
    ) -> list[Entry] | None:
        """Store one inferred batch: its selected samples, its counts, and what goes with them.

        Args:
            payloads: The samples.
            booked: Samples by fate.
            remembered: By name: the stream's position, the budget.

        Returns:
            The new entries; None if the disk would not take them, in which case the
            samples are booked as dropped as soon as it takes anything again.
        """
        payloads = list(payloads)
        samples_added = sum(samples for _, samples in payloads)
        counts = Counter(booked) + self._unbooked
        try:
            with transaction(self._database) as database:
                ids = [
                    database.execute(
                        "INSERT INTO batches (samples, payload) VALUES (?, ?)", (samples, payload)
                    ).lastrowid
                    for payload, samples in payloads
                ]
                self._book(counts)
                for name, value in remembered.items():
                    self._remember(name, value)
        except sqlite3.OperationalError:
            self._unbooked.update(booked)
            self._unbooked["dropped:disk-full"] += samples_added
            return None
        self._committed(counts, held=samples_added)
        return [
            Entry(row_id or 0, samples, len(payload))
            for row_id, (payload, samples) in zip(ids, payloads, strict=True)
        ]

    def payload(self, entry: Entry) -> bytes | None:
        """The encoded batch of an entry; None if it is gone."""
        row = self._database.execute(
            "SELECT payload FROM batches WHERE id = ?", (entry.id,)
        ).fetchone()
        return bytes(row[0]) if row else None

    def number(self, entry: Entry) -> bool:
        """Fix an entry's session and seq before it is sent for the first time.

        Returns:
            Whether the disk took it. If not, the entry must not be sent: after a crash it
            would get another number, and might be trained twice.
        """
        try:
            self._database.execute(
                "UPDATE batches SET session = ?, seq = ? WHERE id = ?",
                (entry.session, entry.seq, entry.id),
            )
        except sqlite3.OperationalError:
            return False
        return True

    def settle(self, entries: Iterable[Entry], fate: str) -> None:
        """Delete entries and book their samples under `fate`, such as `acknowledged`.

        On a full disk this is made good with the next one; at worst, after a crash, the
        cloud is offered again what it has, and says so.
        """
        self._late.extend((entry, fate) for entry in entries)
        if not self._late:
            return
        counts = Counter(self._unbooked)
        for entry, its_fate in self._late:
            counts[its_fate] += entry.samples
        try:
            with transaction(self._database) as database:
                database.executemany(
                    "DELETE FROM batches WHERE id = ?", [(entry.id,) for entry, _ in self._late]
                )
                self._book(counts)
        except sqlite3.OperationalError:
            return
        self._committed(counts, held=-sum(entry.samples for entry, _ in self._late))
        self._late.clear()

    def books(self) -> dict[str, int]:
        """Samples by fate, over all runs of this device, and those still held as `spooled`.

        Reads memory only, so another thread may ask.
        """
        return {**(self._booked.copy() + self._unbooked.copy()), "spooled": self._held}

    def remember(self, name: str, value: bytes) -> None:
        """Keep a small value across restarts; on a full disk, only until the end of this run."""
        try:
            self._remember(name, value)
        except sqlite3.OperationalError:
            self._unsaved[name] = value
        else:
            self._unsaved.pop(name, None)

    def recall(self, name: str) -> bytes | None:
        """A value kept before."""
        if name in self._unsaved:
            return self._unsaved[name]
        row = self._database.execute("SELECT value FROM memory WHERE name = ?", (name,)).fetchone()
        return bytes(row[0]) if row else None

    def forget(self, name: str) -> None:
        """Drop a kept value; none there is no error, and a full disk keeps it."""
        self._unsaved.pop(name, None)
        with contextlib.suppress(sqlite3.OperationalError):
            self._database.execute("DELETE FROM memory WHERE name = ?", (name,))

    def _remember(self, name: str, value: bytes) -> None:
        self._database.execute(
            "INSERT INTO memory VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def _book(self, counts: Counter[str]) -> None:
        """Write counts inside the caller's transaction; `_committed` makes them visible."""
        self._database.executemany(
            "INSERT INTO books VALUES (?, ?) "
            "ON CONFLICT (entry) DO UPDATE SET samples = samples + excluded.samples",
            [(entry, samples) for entry, samples in counts.items() if samples],
        )

    def _committed(self, counts: Counter[str], *, held: int) -> None:
        self._booked.update(counts)
        self._unbooked.clear()
        self._held += held


def read_books(database: sqlite3.Connection) -> tuple[str, dict[str, int]]:
    """The device's name and its books, from any connection to a spool's file."""
    device = database.execute("SELECT value FROM memory WHERE name = ?", (DEVICE,)).fetchone()
    books = dict(database.execute("SELECT entry, samples FROM books").fetchall())
    held = database.execute("SELECT coalesce(sum(samples), 0) FROM batches").fetchone()
    return bytes(device[0]).decode() if device else "", {**books, "spooled": int(held[0])}


def forget_names(folder: Path, *names: str) -> None:
    """Drop values a device remembers, and all under `NAME/`; the spool and the books stay."""
    with contextlib.closing(open_database(folder / DATABASE, _SCHEMA)) as database:
        database.executemany(
            "DELETE FROM memory WHERE name = ?1 OR substr(name, 1, length(?1) + 1) = ?1 || '/'",
            [(name,) for name in names],
        )
