"""One cache for every demo: the networks are trained by the first."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a demo keeps its networks."""
    return tmp_path_factory.mktemp("cache")
