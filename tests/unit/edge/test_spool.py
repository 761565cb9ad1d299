"""The spool survives what kills the program, and a full disk costs samples only."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from driftwell.edge.spool import DATABASE, Spool, read_books
from driftwell.messages.errors import SettingsError
from driftwell.models.state_folder import own_folder

PLACE = {"position:s": b"10"}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path, "cam-1")) as opened:
        yield opened


@contextmanager
def full_disk(spool: Spool) -> Iterator[None]:
    """Let the file not grow any further, as on a disk that is full."""
    (pages,) = spool._database.execute("PRAGMA page_count").fetchone()
    spool._database.execute(f"PRAGMA max_page_count = {pages}")
    yield
    spool._database.execute("PRAGMA max_page_count = 1000000")


def test_it_survives_being_reopened(tmp_path: Path, spool: Spool) -> None:
    """Entries, numbers, books and position are there after the file was never closed."""
    entries = spool.add([(b"one", 3), (b"two", 2)], booked={"selected": 5, "seen": 9},
                        remembered=PLACE)  # fmt: skip
    assert entries is not None
    assert spool.number(replace(entries[0], session="a" * 16, seq=4))

    with closing(Spool(tmp_path, "cam-1")) as again:
        first, second = again.entries()
        assert (first.samples, first.size_bytes, first.session, first.seq) == (3, 3, "a" * 16, 4)
        assert (second.session, second.seq) == ("", 0)
        assert [again.payload(entry) for entry in (first, second)] == [b"one", b"two"]
        assert again.books() == {"selected": 5, "seen": 9, "spooled": 5}
        assert again.recall("position:s") == b"10"


def test_what_is_settled_is_gone_and_booked(tmp_path: Path, spool: Spool) -> None:
    """Settling moves samples from `spooled` to their fate, on disk too."""
    entries = spool.add([(b"one", 3), (b"two", 2)], booked={"selected": 5}, remembered=PLACE)
    assert entries is not None

    spool.settle(entries[:1], "acknowledged")
    spool.settle([], "acknowledged")

    assert spool.books() == {"selected": 5, "acknowledged": 3, "spooled": 2}
    assert spool.payload(entries[0]) is None
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        assert read_books(database) == ("cam-1", spool.books())


def test_a_full_disk_costs_samples_and_nothing_else(tmp_path: Path, spool: Spool) -> None:
    """What does not fit is dropped, and booked on disk as soon as there is room again."""
    with full_disk(spool):
        refused = spool.add([(bytes(100_000), 4)], booked={"selected": 4}, remembered=PLACE)
        assert refused is None
        assert spool.recall("position:s") is None
        assert spool.books() == {"selected": 4, "dropped:disk-full": 4, "spooled": 0}

    assert spool.add([(b"x", 1)], booked={"selected": 1}, remembered=PLACE)
    with closing(Spool(tmp_path, "cam-1")) as again:
        assert again.books() == {"selected": 5, "dropped:disk-full": 4, "spooled": 1}


def test_an_ack_on_a_full_disk_is_made_good_later(tmp_path: Path, spool: Spool) -> None:
    """Nothing can be written: the samples stay spooled until the disk takes their fate."""
    entries = spool.add([(b"x", 2)], booked={"selected": 2}, remembered=PLACE)
    assert entries is not None
    spool._database.execute("PRAGMA query_only = 1")  # every write fails, as without space

    spool.settle(entries, "acknowledged")
    assert not spool.number(entries[0])
    spool.remember("name", b"value")
    spool.forget("position:s")

    assert spool.books() == {"selected": 2, "spooled": 2}
    assert spool.recall("name") == b"value"
    spool._database.execute("PRAGMA query_only = 0")
    spool.settle([], "acknowledged")
    with closing(Spool(tmp_path, "cam-1")) as again:
        assert again.books() == {"selected": 2, "acknowledged": 2, "spooled": 0}


def test_another_devices_folder_is_refused(tmp_path: Path, spool: Spool) -> None:
    """A folder belongs to the device that used it first, and the error names it."""
    with pytest.raises(SettingsError, match="'cam-1'"):
        Spool(tmp_path, "cam-2")

    assert spool.books() == {"spooled": 0}


def test_a_second_program_is_refused(tmp_path: Path) -> None:
    """Two programs never own one folder; after the first one's end it is free."""
    with own_folder(tmp_path), pytest.raises(SettingsError, match="in use"), own_folder(tmp_path):
        pass
    with own_folder(tmp_path) as folder:
        assert folder == tmp_path


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    """A file that is no database is not overwritten."""
    (tmp_path / DATABASE).write_bytes(b"not a database at all" * 100)

    with pytest.raises(SettingsError, match=DATABASE):
        Spool(tmp_path, "cam-1")

    assert (tmp_path / DATABASE).read_bytes().startswith(b"not a database")


def test_small_values_are_kept_and_forgotten(spool: Spool) -> None:
    """The last value counts; forgetting what is not there is no error."""
    spool.remember("name", b"1")
    spool.remember("name", b"2")
    assert spool.recall("name") == b"2"
    spool.forget("name")
    spool.forget("name")
    assert spool.recall("name") is None
