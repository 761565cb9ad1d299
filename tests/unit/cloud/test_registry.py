"""The registry: configurations beside versions, and ledgers of an earlier release."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.unit.cloud.histories import make_cloud

from driftwell.cloud import registry
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.registry import (
    KEEP_VERSIONS,
    add_version,
    keep_configuration,
    read_cohorts,
    read_configuration,
    read_version,
    read_versions,
)
from driftwell.cloud.settings import configuration_document
from driftwell.cloud.tables import StoredVersion

OLD_VERSIONS = (
    "CREATE TABLE versions (cohort TEXT NOT NULL, version INTEGER NOT NULL, result TEXT NOT NULL, "
    "manifest BLOB NOT NULL, signature BLOB NOT NULL, PRIMARY KEY (cohort, version))"
)


def version(number: int, cohort: str = "cam-1") -> StoredVersion:
    return StoredVersion(cohort, number, "d" * 64, b"manifest", b"signature")


def open_file(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "cloud.sqlite", isolation_level=None)


def test_a_version_leads_to_the_configuration_that_made_it(tmp_path: Path) -> None:
    """Two seeds of one method are two configurations, each version with its own."""
    cloud = make_cloud(tmp_path)
    cloud.learn(range(1, 3))
    reseeded = msgspec.structs.replace(cloud.settings, seed=7)

    with closing(Ledger(cloud.state)) as ledger:
        document = configuration_document(reseeded, foundation=cloud.foundation.digest)
        ledger.configure(reseeded.method.digest, document)
        ledger.use("cam-1", [], fate="trained", version=version(3))
    with closing(open_file(cloud.state)) as database:
        found = [read_configuration(database, "cam-1", n) for n in (1, 2, 3)]

    first = configuration_document(cloud.settings, foundation=cloud.foundation.digest)
    assert found == [first, first, document]
    assert msgspec.json.decode(document)["seed"] == 7
    assert msgspec.json.decode(document)["foundation"] == cloud.foundation.digest


def test_a_configuration_without_versions_goes(tmp_path: Path) -> None:
    """A thousand starts under other settings leave what a version refers to, and the last."""
    with closing(Ledger(tmp_path)) as ledger:
        ledger.configure("used", "{}")
        ledger.use("cam-1", [], fate="trained", version=version(1))
        for number in range(20):
            ledger.configure(f"unused-{number}", "{}")
    with closing(open_file(tmp_path)) as database:
        kept = database.execute("SELECT digest FROM configurations ORDER BY id").fetchall()

    assert kept == [("used",), ("unused-19",)]


def test_the_oldest_versions_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cohort has so many versions and no more; others keep theirs."""
    assert KEEP_VERSIONS == 1000
    monkeypatch.setattr(registry, "KEEP_VERSIONS", 3)
    with closing(Ledger(tmp_path)) as ledger:
        ledger.use("cam-2", [], fate="trained", version=version(1, "cam-2"))
        for number in range(1, 6):
            ledger.use("cam-1", [], fate="trained", version=version(number))

        assert [one.version for one in ledger.versions("cam-1")] == [3, 4, 5]
        assert [one.version for one in ledger.versions("cam-2")] == [1]


def test_a_ledger_of_an_earlier_release_is_read_and_goes_on(tmp_path: Path) -> None:
    """Its versions are there, without a configuration; new ones have one."""
    with closing(open_file(tmp_path)) as database:
        database.execute(OLD_VERSIONS)
        database.execute("CREATE TABLE cohorts (cohort TEXT PRIMARY KEY, models BLOB NOT NULL)")
        database.execute("INSERT INTO versions VALUES ('cam-1', 1, 'd', x'00', x'00')")
        assert read_configuration(database, "cam-1", 1) is None
        assert read_cohorts(database) == ["cam-1"]
    with closing(Ledger(tmp_path)) as ledger:
        ledger.configure("digest", "{}")
        ledger.use("cam-1", [], fate="trained", version=version(2))
    with closing(Ledger(tmp_path)), closing(open_file(tmp_path)) as database:
        found = [read_configuration(database, "cam-1", n) for n in (1, 2)]
        numbers = [one.version for one in read_versions(database)]

    assert found == [None, "{}"]
    assert numbers == [1, 2]


def test_a_version_has_its_number_once(tmp_path: Path) -> None:
    """Adding it again is an error, and the first stays."""
    with closing(Ledger(tmp_path)), closing(open_file(tmp_path)) as database:
        number = keep_configuration(database, "digest", "{}")
        add_version(database, version(1), number)

        with pytest.raises(sqlite3.IntegrityError):
            add_version(database, version(1), number)
        assert read_version(database, "cam-1", 1) == version(1)
        assert read_version(database, "cam-1", 2) is None
