"""The broker of a contract test: each test is run against all of them."""

from functools import partial

import pytest
from tests.brokers import Open, open_rig
from tests.contract.promises import ALL


@pytest.fixture(params=ALL)
def broker(request: pytest.FixtureRequest) -> Open:
    """Opens the broker of this run."""
    return partial(open_rig, request.param)
