"""State folders: one owner, and transactions that are whole or nothing."""

from contextlib import closing, suppress
from pathlib import Path

import pytest

from driftwell.messages.errors import SettingsError
from driftwell.models.state_folder import open_database, own_folder, transaction

SCHEMA = "CREATE TABLE IF NOT EXISTS t (n INTEGER)"


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """A second owner is refused while the first holds it, and not after an exception."""
    place = tmp_path / "a" / "b"
    with suppress(RuntimeError), own_folder(place):
        with pytest.raises(SettingsError, match="in use"), own_folder(place):
            pass
        raise RuntimeError

    with own_folder(tmp_path / "a" / "b") as folder:
        assert folder.is_dir()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A file in the folder's place is a SettingsError."""
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="cannot be used"), own_folder(tmp_path / "file"):
        pass


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    """What was written before an exception is not there, for anybody."""
    with closing(open_database(tmp_path / "d", SCHEMA)) as database:
        with transaction(database):
            database.execute("INSERT INTO t VALUES (1)")
        with suppress(RuntimeError), transaction(database):
            database.execute("INSERT INTO t VALUES (2)")
            raise RuntimeError

        with closing(open_database(tmp_path / "d", SCHEMA)) as other:
            assert other.execute("SELECT n FROM t").fetchall() == [(1,)]
