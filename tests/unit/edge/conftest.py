"""One tiny edge bundle for all tests of the edge."""

import pytest
from tests import tiny

from driftwell.models.bundle import Bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles"), "edge")
