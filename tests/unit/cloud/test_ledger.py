"""The ledger: at most once, in one transaction, after any death."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests import tiny

from driftwell.cloud.ledger import Ledger, read_books
from driftwell.cloud.tables import StoredBatch, StoredVersion
from driftwell.messages.errors import SettingsError
from driftwell.messages.samples import SampleBatch

BATCH = tiny.make_batch(tiny.make_images(3), model="a" * 64)
KEY = ("cam-1", tiny.SESSION)
VERSION = StoredVersion("cam-1", 1, "d" * 64, b"manifest", b"signature")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path)) as opened:
        yield opened


def numbered(seq: int, oldest_seq: int = 1) -> SampleBatch:
    return msgspec.structs.replace(BATCH, seq=seq, oldest_seq=oldest_seq)


def store(ledger: Ledger, seq: int, oldest_seq: int = 1) -> StoredBatch | None:
    return ledger.store(numbered(seq, oldest_seq), "cam-1", b"payload")


def test_a_batch_is_stored_once(tmp_path: Path, ledger: Ledger) -> None:
    """A repeat is known, on another connection to the file too, and booked once."""
    first = store(ledger, 1)
    assert first is not None
    assert store(ledger, 1) is None

    with closing(Ledger(tmp_path)) as again:
        assert again.store(numbered(1), "cam-1", b"payload") is None
        assert list(again.batches("cam-1")) == [first]
        assert again.books() == {"cam-1": {"stored": 3, "pending": 3}}


def test_the_mark_moves_over_what_is_whole(ledger: Ledger) -> None:
    """Out of order, the mark waits for the gap and then moves over all that was beyond it."""
    marks = []
    for seq in (2, 4, 1, 3):
        store(ledger, seq)
        marks.append(ledger.stored_seq(*KEY))

    assert marks == [0, 0, 2, 4]
    assert ledger.stored_seq("cam-1", "f" * 16) == 0


def test_what_the_edge_gave_up_is_no_gap(ledger: Ledger) -> None:
    """`oldest_seq` closes the gap below it, on a repeat too; what comes late is not stored."""
    store(ledger, 1)
    store(ledger, 4)
    assert ledger.stored_seq(*KEY) == 1

    assert store(ledger, 4, oldest_seq=4) is None

    assert ledger.stored_seq(*KEY) == 4
    assert store(ledger, 3) is None


def test_a_refusal_fills_its_place(ledger: Ledger) -> None:
    """A refused number counts for the mark, is told with its code, and is never stored."""
    store(ledger, 1)
    ledger.refuse(*KEY, 2, "bad-array", samples=5)
    ledger.refuse(*KEY, 2, "malformed", samples=5)
    ledger.refuse(*KEY, 1, "malformed", samples=3)
    store(ledger, 3)

    assert ledger.stored_seq(*KEY) == 3
    assert [(one.seq, one.code) for one in ledger.refusals(*KEY)] == [(2, "bad-array")]
    assert store(ledger, 2) is None
    assert ledger.books()["cam-1"] == {"stored": 6, "rejected:bad-array": 5, "pending": 6}


def test_a_fate_comes_with_all_that_followed(ledger: Ledger) -> None:
    """Samples, models and version are there together."""
    batch = store(ledger, 1)
    assert batch is not None

    ledger.use("cam-1", [(batch, 2)], fate="trained", models=b"models", version=VERSION)

    assert ledger.models("cam-1") == b"models"
    assert list(ledger.versions()) == ledger.newest_versions() == [VERSION]
    assert [one.used for one in ledger.batches("cam-1")] == [2]
    assert ledger.books()["cam-1"] == {"stored": 3, "trained": 2, "pending": 1}


def test_no_sample_is_used_twice(ledger: Ledger) -> None:
    """Using more than there is fails, and nothing of it is booked: neither use nor models."""
    one, two = store(ledger, 1), store(ledger, 2)
    assert one is not None
    assert two is not None
    before = ledger.books()

    with pytest.raises(sqlite3.IntegrityError):
        ledger.use("cam-1", [(one, 3), (two, 4)], fate="trained", models=b"models")

    assert ledger.books() == before
    assert ledger.models("cam-1") is None
    assert [batch.used for batch in ledger.batches("cam-1")] == [0, 0]


def test_a_version_that_is_there_rolls_the_step_back(ledger: Ledger) -> None:
    """The same version a second time fails, with the use and the models that came with it."""
    batch = store(ledger, 1)
    assert batch is not None
    ledger.use("cam-1", [(batch, 1)], fate="trained", models=b"1", version=VERSION)

    with pytest.raises(sqlite3.IntegrityError):
        ledger.use("cam-1", [(batch, 1)], fate="trained", models=b"2", version=VERSION)

    assert ledger.models("cam-1") == b"1"
    assert ledger.books()["cam-1"]["trained"] == 1
    ledger.use("cam-1", [(batch, 1)], fate="trained", models=b"2",
               version=replace(VERSION, version=2))  # fmt: skip
    assert [one.version for one in ledger.newest_versions()] == [2]


def test_only_what_is_used_is_discarded(ledger: Ledger) -> None:
    """A batch with a pending sample stays, however old; what is gone is known all the same."""
    one, two, three = (store(ledger, seq) for seq in (1, 2, 3))
    assert one is not None
    assert two is not None
    assert three is not None
    ledger.use("cam-1", [(one, 3), (two, 1), (three, 3)], fate="expired")

    ledger.discard("cam-1", before_id=three.id)

    assert [batch.seq for batch in ledger.batches("cam-1")] == [2, 3]
    assert store(ledger, 1) is None
    assert ledger.books()["cam-1"] == {"stored": 9, "expired": 7, "pending": 2}


def test_the_ledger_is_of_one_edge_model(tmp_path: Path, ledger: Ledger) -> None:
    """Another edge model on the same folder is refused; the same one is welcome."""
    ledger.claim("a" * 64)
    ledger.claim("a" * 64)

    with pytest.raises(SettingsError, match="edge model"):
        ledger.claim("b" * 64)


def test_books_can_be_read_by_others(tmp_path: Path, ledger: Ledger) -> None:
    """Diverged samples are settled; refused ones were never pending."""
    batch = store(ledger, 1)
    assert batch is not None
    ledger.use("cam-1", [(batch, 2)], fate="rejected:diverged")

    with closing(sqlite3.connect(tmp_path / "cloud.sqlite")) as other:
        assert read_books(other)["cam-1"] == {"stored": 3, "rejected:diverged": 2, "pending": 1}
