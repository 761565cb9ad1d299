"""Asks the cloud that owns a ledger to take a cohort back, and waits for its answer."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from driftwell.cloud.ledger import DATABASE
from driftwell.cloud.publisher import reverted_to
from driftwell.cloud.registry import ask_for_revert, is_waiting
from driftwell.messages.errors import SettingsError
from driftwell.tools.lineage.versions import connect_reading, open_versions

OWNER_LOCK: Final = "owner.lock"
LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the cloud made of a request."""

    is_waiting: bool
    """Whether it has not been answered yet."""
    version: int | None = None
    """The version it led to; None if it waits, or was refused."""


def ask(state: Path, cohort: str, version: int) -> int:
    """Leave the request in the ledger; return its id.

    Raises:
        SettingsError: if the ledger cannot be written.
    """
    file = (state / DATABASE).resolve()
    try:
        with closing(
            sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=5, isolation_level=None)
        ) as database:
            return ask_for_revert(database, cohort, version)
    except sqlite3.Error as error:
        raise SettingsError(
            f"{file} cannot be written ({error}); run this as the user the cloud runs as"
        ) from error


def wait_for_answer(
    state: Path,
    request_id: int,
    cohort: str,
    version: int,
    *,
    patience_s: float,
    monotonic_s: Callable[[], float],
    sleep: Callable[[float], None],
) -> Answer:
    """Wait until the cloud has answered a request, as long as it runs and patience lasts."""
    end_s = monotonic_s() + patience_s
    while _waits(state, request_id):
        if monotonic_s() >= end_s or not is_running(state):
            # The cloud may have answered and ended between the two looks.
            if _waits(state, request_id):
                return Answer(is_waiting=True)
            break
        sleep(LOOK_S)
    with open_versions(state) as versions:
        made = [
            one.manifest.version
            for one in versions.read(cohort)
            if reverted_to(one.manifest.provenance) == version
        ]
    return Answer(is_waiting=False, version=max(made, default=None))


def is_running(state: Path) -> bool:
    """Whether a cloud owns the state folder at this moment."""
    lock = state / OWNER_LOCK
    if not lock.is_file():
        return False
    try:
        with closing(
            sqlite3.connect(f"{lock.resolve().as_uri()}?mode=ro", uri=True, timeout=0)
        ) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        return True
    return False


def _waits(state: Path, request_id: int) -> bool:
    try:
        with closing(connect_reading(state / DATABASE)) as database:
            return is_waiting(database, request_id)
    except sqlite3.Error as error:
        raise SettingsError(f"{state / DATABASE} cannot be read: {error}") from error
