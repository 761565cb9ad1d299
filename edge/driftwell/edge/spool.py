"""The spool: selected samples on disk until the cloud has stored them, and the books.

One transaction holds a batch's samples, their count as `selected` and the position in the
stream, so a `kill -9` between any two lines neither loses a sample nor counts it twice.
A full disk costs samples (booked as dropped), never an answer.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from driftwell.edge.outbox import Entry
from driftwell.models.state_folder import open_database, transaction

DATABASE: Final = "edge.sqlite"

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

    def __init__(self, folder: Path) -> None:
        self._database = open_database(folder / DATABASE, _SCHEMA)
        self._unbooked: Counter[str] = Counter()

    def close(self) -> None:
        """Close the file; everything committed is safe already."""
        self._database.close()

    def entries(self) -> list[Entry]:
        """What an earlier run left, by age."""
        rows = self._database.execute(
            "SELECT id, samples, length(payload), session, seq FROM batches ORDER BY id"
        )
        return [Entry(row[0], row[1], row[2], row[3], row[4]) for row in rows]

    def add(
        self, payloads: Iterable[Payload], *, booked: Mapping[str, int], position: tuple[str, bytes]
    ) -> list[Entry] | None:
        """Store one inferred batch: its selected samples, its counts, the stream's position.

        Returns:
            The new entries; None if the disk would not take them, in which case the
            samples are booked as dropped as soon as it takes anything again.
        """
        payloads = list(payloads)
        try:
            with transaction(self._database) as database:
                ids = [
                    database.execute(
                        "INSERT INTO batches (samples, payload) VALUES (?, ?)", (samples, payload)
                    ).lastrowid
                    for payload, samples in payloads
                ]
                self._book(Counter(booked))
                self._remember(*position)
        except sqlite3.OperationalError:
            self._unbooked.update(booked)
            self._unbooked["dropped:disk-full"] += sum(samples for _, samples in payloads)
            return None
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

    def number(self, entry: Entry) -> None:
        """Fix an entry's session and seq before it is sent for the first time."""
        self._database.execute(
            "UPDATE batches SET session = ?, seq = ? WHERE id = ?",
            (entry.session, entry.seq, entry.id),
        )

    def settle(self, entries: Iterable[Entry], fate: str) -> None:
        """Delete entries and book their samples under `fate`, such as `acknowledged`."""
        entries = list(entries)
        if not entries:
            return
        with transaction(self._database) as database:
            database.executemany(
                "DELETE FROM batches WHERE id = ?", [(entry.id,) for entry in entries]
            )
            self._book(Counter({fate: sum(entry.samples for entry in entries)}))

    def books(self) -> dict[str, int]:
        """Samples by fate, over all runs of this device, and those still held as `spooled`."""
        books = dict(self._database.execute("SELECT entry, samples FROM books ORDER BY entry"))
        for entry, samples in self._unbooked.items():
            books[entry] = books.get(entry, 0) + samples
        held = self._database.execute("SELECT coalesce(sum(samples), 0) FROM batches").fetchone()
        return {**books, "spooled": int(held[0])}

    def remember(self, name: str, value: bytes) -> None:
        """Keep a small value across restarts."""
        self._remember(name, value)

    def recall(self, name: str) -> bytes | None:
        """A value kept before."""
        row = self._database.execute("SELECT value FROM memory WHERE name = ?", (name,)).fetchone()
        return bytes(row[0]) if row else None

    def forget(self, name: str) -> None:
        """Drop a kept value; none there is no error."""
        self._database.execute("DELETE FROM memory WHERE name = ?", (name,))

    def _remember(self, name: str, value: bytes) -> None:
        self._database.execute(
            "INSERT INTO memory VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )

    def _book(self, counts: Counter[str]) -> None:
        counts.update(self._unbooked)
        self._database.executemany(
            "INSERT INTO books VALUES (?, ?) "
            "ON CONFLICT (entry) DO UPDATE SET samples = samples + excluded.samples",
            [(entry, samples) for entry, samples in counts.items() if samples],
        )
        self._unbooked.clear()
