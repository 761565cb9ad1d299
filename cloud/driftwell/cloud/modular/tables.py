"""Pure. The tables of a modular model's registry, and what is read from them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS owner (model TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS costs (document BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS modules (
    layer INTEGER NOT NULL, module INTEGER NOT NULL, version INTEGER NOT NULL,
    piece TEXT NOT NULL, content BLOB, delta BLOB,
    PRIMARY KEY (layer, module, version)
);
CREATE TABLE IF NOT EXISTS updates (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL, session TEXT NOT NULL, seq INTEGER NOT NULL,
    UNIQUE (device, session, seq)
);
CREATE TABLE IF NOT EXISTS refined (
    device TEXT PRIMARY KEY, source TEXT NOT NULL, mark TEXT NOT NULL, class_shares BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS submodels (
    device TEXT PRIMARY KEY, version INTEGER NOT NULL, manifest BLOB NOT NULL,
    signature BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL, payload BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class StoredSubModel:
    """A device's newest sub-model: its manifest's signed bytes."""

    device: str
    version: int
    manifest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, eq=False)
class RefinedFor:
    """What a device had when its sub-model was refined."""

    mark: str
    """Of its modules."""
    class_shares: NDArray[np.float64]
    """(C,)"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that was not used."""

    device: str
    code: str
    detail: str
