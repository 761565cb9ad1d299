"""Reads the versions in a cloud's ledger; the cloud may run beside it."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from driftwell.cloud.ledger import DATABASE
from driftwell.cloud.registry import (
    read_cohorts,
    read_configuration,
    read_version,
    read_versions,
)
from driftwell.cloud.signing_key import FILE, signing_key
from driftwell.cloud.tables import StoredVersion
from driftwell.messages.errors import MalformedError, SettingsError
from driftwell.messages.head import Manifest
from driftwell.messages.signing import read_manifest


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a registry."""

    stored: StoredVersion
    manifest: Manifest


class Versions:
    """The versions of one cloud, read only."""

    def __init__(self, state: Path, database: sqlite3.Connection) -> None:
        self._state = state
        self._database = database

    def cohort(self, wanted: str | None) -> str:
        """The cohort that is meant: the wanted one, or the only one.

        Raises:
            SettingsError: if it is not there, or there are several and none was named.
        """
        known = read_cohorts(self._database)
        if wanted in known:
            return str(wanted)
        if wanted is None and len(known) == 1:
            return known[0]
        if not known:
            raise SettingsError(f"the cloud of {self._state} has not learned anything yet")
        there = ", ".join(known)
        if wanted is None:
            raise SettingsError(f"there are several cohorts, name one with --cohort: {there}")
        raise SettingsError(f"there is no cohort {wanted!r}; there is: {there}")

    def read(self, cohort: str | None = None) -> Iterator[Version]:
        """Versions, oldest first, of one cohort or of all.

        Raises:
            SettingsError: if one is damaged.
        """
        return (self._opened(stored) for stored in read_versions(self._database, cohort))

    def find(self, cohort: str, number: int) -> Version:
        """One version.

        Raises:
            SettingsError: if it is not there, or damaged; the text says which are there.
        """
        stored = read_version(self._database, cohort, number)
        if stored is None:
            there = spans(one.version for one in read_versions(self._database, cohort))
            raise SettingsError(
                f"cohort {cohort!r} has no version {number}; it has: {there or 'none yet'} "
                "(and 0, the source state)"
            )
        return self._opened(stored)

    def configuration(self, cohort: str, number: int) -> str | None:
        """The settings a version was made under, as JSON; None if its release kept none."""
        return read_configuration(self._database, cohort, number)

    def signature_says(self, version: Version) -> str:
        """Whether the state folder's key signed the version, in words."""
        if not (self._state / FILE).is_file():  # reading the key would make one
            return f"not checked: {self._state} has no {FILE}"
        key = signing_key(self._state).public_key()
        try:
            key.verify(version.stored.signature, version.stored.manifest)
        except InvalidSignature:
            return "DOES NOT FIT the key of the state folder"
        return f"fits the key {key.public_bytes_raw().hex()[:12]}"

    def _opened(self, stored: StoredVersion) -> Version:
        try:
            return Version(stored, read_manifest(stored.manifest))
        except MalformedError as error:
            raise SettingsError(
                f"version {stored.version} of cohort {stored.cohort!r} is damaged in the ledger of "
                f"{self._state}: {error}; restore {DATABASE} from a backup"
            ) from error


@contextmanager
def open_versions(state: Path) -> Iterator[Versions]:
    """Open the ledger in a state folder for reading.

    Raises:
        SettingsError: if it is not the state folder of a cloud, or its ledger is damaged.
    """
    file = state / DATABASE
    if not file.is_file():
        raise SettingsError(f"{state} is not the state folder of a cloud: it has no {DATABASE}")
    try:
        with closing(connect_reading(file)) as database:
            yield Versions(state, database)
    except sqlite3.Error as error:
        raise SettingsError(
            f"{file} cannot be read ({error}); restore it from a backup, or move it away to "
            "begin anew"
        ) from error


def connect_reading(file: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    return sqlite3.connect(
        f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5, isolation_level=None
    )


def spans(numbers: Iterable[int]) -> str:
    """Ascending numbers in few words, such as `1 to 37, 40`."""
    whole = list(numbers)
    ends = [at for at, (low, high) in enumerate(pairwise(whole), 1) if high != low + 1]
    parts = [whole[a:b] for a, b in pairwise([0, *ends, len(whole)])]
    return ", ".join(
        str(part[0]) if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts if part
    )
