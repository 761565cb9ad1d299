"""Fixtures that integration tests share."""

import pytest
from tests import modular_pieces
from tests.modular_pieces import Bundles


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return modular_pieces.make_bundles(tmp_path_factory.mktemp("modular"))
