"""The ledger: which samples came, and what became of each, to the sample and for good.

A sample batch is known by `(device, session, seq)` and stored at most once. A cohort's
samples are used in the order they were stored; `use` moves the mark and saves what was
learned in one transaction, so a `kill -9` repeats a step whole or not at all, and no
sample is trained twice. Fates: trained, expired, rejected:CODE; the rest is pending.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from driftwell.cloud.registry import (
    add_version,
    keep_configuration,
    next_revert,
    read_newest_versions,
    read_version,
    read_versions,
    renew_version,
    upgrade,
)
from driftwell.cloud.tables import SCHEMA, RevertRequest, StoredBatch, StoredVersion
from driftwell.messages.ack import MAX_REFUSED, Refused
from driftwell.messages.errors import SettingsError
from driftwell.messages.samples import SampleBatch
from driftwell.models.state_folder import open_database, transaction

DATABASE: Final = "cloud.sqlite"
DIVERGED: Final = "rejected:diverged"
"""The fate of samples whose step gave NaN: the cohort goes back to the source state."""
KEEP_SESSIONS: Final = 256  # a device; an older session's repeats would be new again


class Ledger:
    """Inbox, books, cohort models and versions in one file. One thread owns it."""

    def __init__(self, folder: Path, *, survives_power_failure: bool = True) -> None:
        self._database = open_database(
            folder / DATABASE, SCHEMA, survives_power_failure=survives_power_failure
        )
        try:
            upgrade(self._database)
        except sqlite3.Error as error:
            raise SettingsError(
                f"{folder / DATABASE} cannot be brought up to date: {error}"
            ) from error
        self._configuration: int | None = None

    def close(self) -> None:
        """Close the file; everything committed is safe already."""
        self._database.close()

    def claim(self, model: str) -> None:
        """Tie the ledger to the edge model with this digest.

        Raises:
            SettingsError: if it is tied to another one.
        """
        self._database.execute(
            "INSERT INTO owner SELECT ? WHERE NOT EXISTS (SELECT 1 FROM owner)", (model,)
        )
        owner = self._database.execute("SELECT model FROM owner").fetchone()[0]
        if owner != model:
            raise SettingsError(
                f"the state folder is of edge model {owner[:12]}, not {model[:12]}: "
                "give each edge model a state folder of its own"
            )

    def configure(self, digest: str, document: str) -> None:
        """Say under which configuration the versions to come are made."""
        with transaction(self._database) as database:
            self._configuration = keep_configuration(database, digest, document)

    def store(self, batch: SampleBatch, cohort: str, payload: bytes) -> StoredBatch | None:
        """Store a batch durably; None if it, or its refusal, was there already."""
        with transaction(self._database) as database:
            if self._is_known(batch.device, batch.session, batch.seq):
                self._advance(batch.device, batch.session, batch.oldest_seq)
                return None
            row_id = database.execute(
                "INSERT INTO batches (device, session, seq, cohort, samples, clock_ns, payload) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    batch.device,
                    batch.session,
                    batch.seq,
                    cohort,
                    batch.count,
                    batch.clock_ns,
                    payload,
                ),
            ).lastrowid
            self._book(batch.device, Counter(stored=batch.count))
            self._advance(batch.device, batch.session, batch.oldest_seq)
        return StoredBatch(
            row_id or 0, batch.device, batch.session, batch.seq, batch.count, 0,
            batch.clock_ns, payload,
        )  # fmt: skip

    def knows(self, batch: SampleBatch) -> bool:
        """Whether it, or its refusal, is here already, or was."""
        return self._is_known(batch.device, batch.session, batch.seq)

    def refuse(self, device: str, session: str, seq: int, code: str, *, samples: int) -> None:
        """Note that a batch will never be used, so that the edge stops offering it."""
        with transaction(self._database) as database:
            if not self._is_known(device, session, seq):
                database.execute(
                    "INSERT INTO refusals VALUES (?, ?, ?, ?)", (device, session, seq, code)
                )
                self._book(device, Counter({f"rejected:{code}": samples}))
            self._advance(device, session, oldest_seq=0)

    def stored_seq(self, device: str, session: str) -> int:
        """Up to which seq everything of a session is settled here."""
        row = self._database.execute(
            "SELECT stored_seq FROM sessions WHERE device = ? AND session = ?", (device, session)
        ).fetchone()
        return int(row[0]) if row else 0

    def refusals(self, device: str, session: str) -> tuple[Refused, ...]:
        """The last refusals of a session, as an ack tells them."""
        rows = self._database.execute(
            "SELECT seq, code FROM refusals WHERE device = ? AND session = ? "
            "ORDER BY seq DESC LIMIT ?",
            (device, session, MAX_REFUSED),
        )
        return tuple(Refused(seq=seq, code=code) for seq, code in rows)

    def cohorts(self) -> list[str]:
        """Every cohort with samples or models, in order of the first sample that is kept."""
        fed = self._database.execute("SELECT cohort FROM batches GROUP BY cohort ORDER BY min(id)")
        begun = self._database.execute("SELECT cohort FROM cohorts ORDER BY cohort")
        return list(dict.fromkeys(str(row[0]) for row in [*fed, *begun]))

    def batches(self, cohort: str) -> Iterator[StoredBatch]:
        """A cohort's batches in order: the buffer's, then the pending ones."""
        rows = self._database.execute(
            "SELECT id, device, session, seq, samples, used, clock_ns, payload "
            "FROM batches WHERE cohort = ? ORDER BY id",
            (cohort,),
        )
        return (StoredBatch(*row) for row in rows)

    def use(
        self,
        cohort: str,
        taken: list[tuple[StoredBatch, int]],
        *,
        fate: str,
        models: bytes | None = None,
        version: StoredVersion | None = None,
    ) -> None:
        """Give samples their fate, with all that followed from them, in one transaction.

        Args:
            cohort: Whose samples.
            taken: Batches in order, and how many further samples of each.
            fate: `trained`, `expired` or `rejected:CODE`.
            models: The cohort's models after a step.
            version: The version the step led to.
        """
        with transaction(self._database) as database:
            for batch, samples in taken:
                database.execute(
                    "UPDATE batches SET used = used + ? WHERE id = ?", (samples, batch.id)
                )
                self._book(batch.device, Counter({fate: samples}))
            self._keep(cohort, models, version)

    def next_revert(self) -> RevertRequest | None:
        """The oldest revert that was asked for and not answered."""
        return next_revert(self._database)

    def answer_revert(
        self, request: RevertRequest, *, models: bytes | None = None,
        version: StoredVersion | None = None,
    ) -> None:  # fmt: skip
        """Take a request away, with all that followed from it, in one transaction."""
        with transaction(self._database) as database:
            database.execute("DELETE FROM reverts WHERE id = ?", (request.id,))
            self._keep(request.cohort, models, version)

    def discard(self, cohort: str, *, before_id: int) -> None:
        """Delete used batches the replay buffer no longer holds.

        Those above a gap in their session stay until it closes: a repeat must be known.
        """
        self._database.execute(
            "DELETE FROM batches WHERE cohort = ? AND id < ? AND used = samples AND seq <= "
            "coalesce((SELECT stored_seq FROM sessions WHERE sessions.device = batches.device "
            "AND sessions.session = batches.session), seq)",
            (cohort, before_id),
        )

    def models(self, cohort: str) -> bytes | None:
        """A cohort's models as last saved."""
        row = self._database.execute(
            "SELECT models FROM cohorts WHERE cohort = ?", (cohort,)
        ).fetchone()
        return bytes(row[0]) if row else None

    def versions(self, cohort: str | None = None) -> Iterator[StoredVersion]:
        """Versions, oldest first, of one cohort or of all."""
        return read_versions(self._database, cohort)

    def version(self, cohort: str, version: int) -> StoredVersion | None:
        """One version; None if it is not there, or not any more."""
        return read_version(self._database, cohort, version)

    def renew(self, version: StoredVersion) -> None:
        """Keep a version's manifest as it is signed now."""
        with transaction(self._database) as database:
            renew_version(database, version)

    def newest_versions(self) -> list[StoredVersion]:
        """The newest version of each cohort."""
        return read_newest_versions(self._database)

    def books(self) -> dict[str, dict[str, int]]:
        """Samples by device and fate; `pending` is what has none yet."""
        return read_books(self._database)

    def _keep(self, cohort: str, models: bytes | None, version: StoredVersion | None) -> None:
        if models is not None:
            self._database.execute("INSERT OR REPLACE INTO cohorts VALUES (?, ?)", (cohort, models))
        if version is not None:
            add_version(self._database, version, self._configuration)

    def _is_known(self, device: str, session: str, seq: int) -> bool:
        return seq <= self.stored_seq(device, session) or self._has(device, session, seq)

    def _advance(self, device: str, session: str, oldest_seq: int) -> None:
        """Move the session's mark over everything that is stored, refused or given up."""
        database = self._database
        is_new = database.execute(
            "INSERT OR IGNORE INTO sessions (device, session) VALUES (?, ?)", (device, session)
        ).rowcount
        if is_new:
            self._forget_old_sessions(device)
        mark = max(self.stored_seq(device, session), oldest_seq - 1)
        while self._has(device, session, mark + 1):
            mark += 1
        database.execute(
            "UPDATE sessions SET stored_seq = ? WHERE device = ? AND session = ?",
            (mark, device, session),
        )

    def _has(self, device: str, session: str, seq: int) -> bool:
        row = self._database.execute(
            "SELECT EXISTS (SELECT 1 FROM batches WHERE device = ?1 AND session = ?2 AND seq = ?3)"
            " OR EXISTS (SELECT 1 FROM refusals WHERE device = ?1 AND session = ?2 AND seq = ?3)",
            (device, session, seq),
        ).fetchone()
        return bool(row[0])

    def _forget_old_sessions(self, device: str) -> None:
        self._database.execute(
            "DELETE FROM sessions WHERE device = ?1 AND rowid NOT IN "
            "(SELECT rowid FROM sessions WHERE device = ?1 ORDER BY rowid DESC LIMIT ?2)",
            (device, KEEP_SESSIONS),
        )
        self._database.execute(
            "DELETE FROM refusals WHERE device = ?1 AND session NOT IN "
            "(SELECT session FROM sessions WHERE device = ?1)",
            (device,),
        )

    def _book(self, device: str, counts: Counter[str]) -> None:
        self._database.executemany(
            "INSERT INTO books VALUES (?, ?, ?) "
            "ON CONFLICT (device, entry) DO UPDATE SET samples = samples + excluded.samples",
            [(device, entry, samples) for entry, samples in counts.items() if samples],
        )


def read_books(database: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Samples by device and fate, from any connection to a ledger's file."""
    books: dict[str, dict[str, int]] = {}
    for device, entry, samples in database.execute("SELECT device, entry, samples FROM books"):
        books.setdefault(device, {})[entry] = samples
        books[device].setdefault("pending", 0)
    waiting = "SELECT device, sum(samples - used) FROM batches GROUP BY device"
    for device, samples in database.execute(waiting):
        books.setdefault(device, {})["pending"] = samples
    return books
