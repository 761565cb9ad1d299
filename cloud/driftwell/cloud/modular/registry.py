"""The registry of a modular model: module versions, sub-models, and what was refused.

One SQLite file beside the ledger. A folded update is booked with the version it led to in one
transaction, so a `kill -9` folds it once or not at all. A program that only looks opens the
file by `read_registry`, and needs no owner's rights.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from driftwell.cloud.modular.catalogue import Address, ModuleVersion
from driftwell.cloud.modular.tables import SCHEMA, RefinedFor, Refusal, StoredSubModel
from driftwell.messages.blob import decode_content, encode_whole
from driftwell.messages.delta import Delta
from driftwell.messages.errors import SettingsError
from driftwell.models.state_folder import open_database, transaction

DATABASE: Final = "modules.sqlite"
KEEP_NAMES: Final = 1000
"""Versions of a module whose pieces are known by name; the arrays of the newest ones are kept."""
KEEP_UPDATES: Final = 10_000
"""Updates by which a repeated one is known."""
KEEP_REFUSED: Final = 100
"""Messages in quarantine."""


class ModuleRegistry:
    """Everything of a modular model that survives the program. One thread owns it."""

    def __init__(self, folder: Path, *, model: str, survives_power_failure: bool = True) -> None:
        """Open it, or make it.

        Raises:
            SettingsError: if it is of another model, or damaged.
        """
        path = folder / DATABASE
        self._database = open_database(path, SCHEMA, survives_power_failure=survives_power_failure)
        self._database.execute(
            "INSERT INTO owner SELECT ? WHERE NOT EXISTS (SELECT 1 FROM owner)", (model,)
        )
        owner = self._database.execute("SELECT model FROM owner").fetchone()[0]
        if owner != model:
            self._database.close()
            raise SettingsError(
                f"{path} is of model {owner[:12]}, not {model[:12]}: give each edge model a state "
                "folder of its own"
            )

    def close(self) -> None:
        """Close the file; everything committed is safe already."""
        self._database.close()

    def knows_update(self, device: str, session: str, seq: int) -> bool:
        """Whether an update was folded in, or refused, before."""
        row = self._database.execute(
            "SELECT 1 FROM updates WHERE device = ? AND session = ? AND seq = ?",
            (device, session, seq),
        ).fetchone()
        return row is not None

    def fold(
        self, device: str, session: str, seq: int, folded: tuple[Address, ModuleVersion] | None,
        *, keep: int,
    ) -> None:  # fmt: skip
        """Book an update with the version that it led to.

        Args:
            device: Whose it is.
            session: The sender's.
            seq: The message's.
            folded: The module and its new version; None: it led to none.
            keep: Versions of a module whose arrays are kept.
        """
        with transaction(self._database) as database:
            self._note_update(device, session, seq)
            if folded is not None:
                _put_version(database, *folded, keep=keep)

    def refine(
        self, source: str, done: Mapping[str, RefinedFor],
        versions: Mapping[Address, ModuleVersion], *, keep: int,
    ) -> None:  # fmt: skip
        """Book that devices' sub-models were refined, with what came of it, all or nothing.

        Args:
            source: Of data and settings.
            done: By device; those of before are forgotten.
            versions: The next ones of modules.
            keep: As in `fold`.
        """
        rows = [(device, source, one.mark, one.class_shares.astype("<f8").tobytes())
                for device, one in done.items()]  # fmt: skip
        with transaction(self._database) as database:
            for address, version in versions.items():
                _put_version(database, address, version, keep=keep)
            database.execute("DELETE FROM refined")
            database.executemany("INSERT INTO refined VALUES (?, ?, ?, ?)", rows)

    def refined(self, source: str) -> dict[str, RefinedFor]:
        """For what each device's sub-model was refined with these data and settings."""
        rows = self._database.execute(
            "SELECT device, mark, class_shares FROM refined WHERE source = ?", (source,)
        )
        return {device: RefinedFor(mark, np.frombuffer(shares, "<f8").astype(np.float64))
                for device, mark, shares in rows}  # fmt: skip

    def refuse(
        self, device: str, code: str, detail: str, payload: bytes, *, update: tuple[str, int] | None
    ) -> None:
        """Put a message into quarantine.

        Args:
            device: Who sent it.
            code: Why it is refused.
            detail: For people.
            payload: The message.
            update: Session and seq, if it is a module update: it is not looked at again.
        """
        with transaction(self._database) as database:
            if update is not None:
                self._note_update(device, *update)
            row = database.execute(
                "INSERT INTO quarantine (device, code, detail, payload) VALUES (?, ?, ?, ?)",
                (device, code, detail, payload),
            )
            database.execute(
                "DELETE FROM quarantine WHERE id <= ?", ((row.lastrowid or 0) - KEEP_REFUSED,)
            )

    def put_submodel(self, submodel: StoredSubModel) -> None:
        """Keep a device's newest sub-model."""
        with transaction(self._database) as database:
            database.execute(
                "INSERT OR REPLACE INTO submodels VALUES (?, ?, ?, ?)",
                (submodel.device, submodel.version, submodel.manifest, submodel.signature),
            )

    def submodel(self, device: str) -> StoredSubModel | None:
        """The newest sub-model of a device; None: it has none."""
        row = self._database.execute(
            "SELECT device, version, manifest, signature FROM submodels WHERE device = ?", (device,)
        ).fetchone()
        return StoredSubModel(*row) if row else None

    def submodels(self) -> list[StoredSubModel]:
        """The newest sub-model of each device."""
        return read_submodels(self._database)

    def versions(self) -> dict[Address, list[ModuleVersion]]:
        """The versions of each module that changed whose arrays are kept, oldest first.

        Raises:
            WireError: if an array was altered on disk.
        """
        found: dict[Address, list[ModuleVersion]] = {}
        rows = self._database.execute(
            "SELECT layer, module, version, piece, content, delta FROM modules "
            "WHERE content IS NOT NULL ORDER BY layer, module, version"
        )
        for layer, module, number, piece, content, delta in rows:
            arrays = decode_content(content, piece=piece, base=None)
            change = None if delta is None else msgspec.msgpack.decode(delta, type=Delta)
            version = ModuleVersion(number, piece, arrays, change)
            found.setdefault((layer, module), []).append(version)
        return found

    def retired(self) -> list[str]:
        """Pieces that are known by name only, oldest first."""
        order = "SELECT piece FROM modules WHERE content IS NULL ORDER BY rowid"
        return [str(row[0]) for row in self._database.execute(order)]

    def costs(self) -> bytes | None:
        """What modules cost, as it was kept; None: it was never measured."""
        row = self._database.execute("SELECT document FROM costs").fetchone()
        return bytes(row[0]) if row else None

    def keep_costs(self, document: bytes) -> None:
        """Keep what modules cost, so that a restart plans with the same numbers."""
        with transaction(self._database) as database:
            database.execute("DELETE FROM costs")
            database.execute("INSERT INTO costs VALUES (?)", (document,))

    def _note_update(self, device: str, session: str, seq: int) -> None:
        row = self._database.execute(
            "INSERT OR IGNORE INTO updates (device, session, seq) VALUES (?, ?, ?)",
            (device, session, seq),
        )
        self._database.execute(
            "DELETE FROM updates WHERE id <= ?", ((row.lastrowid or 0) - KEEP_UPDATES,)
        )


def _put_version(
    database: sqlite3.Connection, address: Address, version: ModuleVersion, *, keep: int
) -> None:
    layer, module = address
    delta = None if version.delta is None else msgspec.msgpack.encode(version.delta)
    database.execute(
        "INSERT INTO modules VALUES (?, ?, ?, ?, ?, ?)",
        (layer, module, version.number, version.piece, encode_whole(version.arrays), delta),
    )
    database.execute(
        "UPDATE modules SET content = NULL, delta = NULL "
        "WHERE layer = ? AND module = ? AND version <= ? AND content IS NOT NULL",
        (layer, module, version.number - keep),
    )
    database.execute(
        "DELETE FROM modules WHERE layer = ? AND module = ? AND version <= ?",
        (layer, module, version.number - KEEP_NAMES),
    )


@contextmanager
def read_registry(folder: Path) -> Iterator[sqlite3.Connection]:
    """The registry of a state folder, to look into while a cloud may be running.

    Raises:
        SettingsError: if the folder has none.
    """
    path = folder / DATABASE
    if not path.is_file():
        raise SettingsError(
            f"{folder} is not the state folder of a cloud with a modular model: it has no "
            f"{DATABASE}"
        )
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        yield database
    finally:
        database.close()


def read_submodels(database: sqlite3.Connection) -> list[StoredSubModel]:
    """The newest sub-model of each device, by name."""
    rows = database.execute(
        "SELECT device, version, manifest, signature FROM submodels ORDER BY device"
    )
    return [StoredSubModel(*row) for row in rows]


def read_newest(database: sqlite3.Connection) -> dict[Address, int]:
    """The newest version of every module that has changed."""
    rows = database.execute(
        "SELECT layer, module, max(version) FROM modules GROUP BY layer, module"
    )
    return {(layer, module): version for layer, module, version in rows}


def read_refusals(database: sqlite3.Connection) -> list[Refusal]:
    """What is in quarantine, oldest first."""
    rows = database.execute("SELECT device, code, detail FROM quarantine ORDER BY id")
    return [Refusal(*row) for row in rows]
