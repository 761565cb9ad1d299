"""What an update costs, and what it must not do to a module."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from tests.unit.cloud.modular.keeping import open_site

from driftwell.cloud.modular.catalogue import Catalogue, FoldSettings, Update
from driftwell.cloud.modular.settings import ModuleSettings
from driftwell.messages.delta import encode_delta
from driftwell.messages.errors import ArrayError

HERE = (0, 3)


def test_what_an_update_writes_does_not_grow(tmp_path: Path) -> None:
    """However many versions a module has gone through, the rows of the old ones are let be."""
    settings = ModuleSettings(fold=FoldSettings(keep=2))
    with open_site(tmp_path, settings=settings) as site:
        written = []
        for seq in range(1, 13):
            before = site.registry._database.total_changes
            site.send(site.update(HERE, seq=seq))
            written.append(site.registry._database.total_changes - before)

        assert site.keeper.catalogue.version(HERE) == 12
        assert written[-1] == written[3] <= 4


def test_a_full_disk_folds_nothing(tmp_path: Path) -> None:
    """Neither on the disk nor in memory; the same update counts as soon as there is room."""
    with open_site(tmp_path) as site:
        update = site.update(HERE)
        site.registry._database.execute("PRAGMA query_only = ON")
        with pytest.raises(sqlite3.OperationalError):
            site.send(update)
        assert site.keeper.catalogue.version(HERE) == 0
        site.registry._database.execute("PRAGMA query_only = OFF")
        site.send(update)

        assert site.keeper.catalogue.version(HERE) == 1


def test_a_variance_below_0_is_refused() -> None:
    """It is finite, and every device that ran the module would answer NaN."""
    module = {
        "first.weight": np.ones((4, 3), np.float32),
        "norm.running_var": np.full(4, 0.5, np.float32),
    }
    catalogue = Catalogue({HERE: module}, FoldSettings())
    worse = {**module, "norm.running_var": np.array([0.5, 0.5, -0.1, 0.5], np.float32)}

    with pytest.raises(ArrayError, match=r"norm.running_var.*below 0"):
        catalogue.read(HERE, Update(0, encode_delta(module, worse), 0.5))


def test_a_module_of_zeros_may_not_leap() -> None:
    """There is no norm to measure by, and a bound all the same."""
    zeros = {"first.weight": np.zeros((4, 4), np.float32)}
    catalogue = Catalogue({HERE: zeros}, FoldSettings(largest_change=4.0))
    small, large = (
        Update(0, encode_delta(zeros, {"first.weight": np.full((4, 4), by, np.float32)}), 0.5)
        for by in (0.03, 1.0)
    )
    assert catalogue.read(HERE, small).importance == 0.5
    with pytest.raises(ArrayError, match="moves the module by 100 of its norm"):
        catalogue.read(HERE, large)
