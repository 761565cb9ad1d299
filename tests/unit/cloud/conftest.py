"""One pair of tiny bundles and its learner for all tests of the cloud."""

import msgspec
import pytest
from tests import tiny

from driftwell.cloud.cema import CemaLearner
from driftwell.cloud.learner import Learner
from driftwell.cloud.settings import MethodSettings, method_document
from driftwell.models.bundle import Bundle


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles"), "edge")


@pytest.fixture(scope="session")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny.make_bundle(tmp_path_factory.mktemp("bundles"), "foundation")


@pytest.fixture(scope="session")
def method() -> MethodSettings:
    return msgspec.convert(method_document("cema"), MethodSettings)


@pytest.fixture
def learner(foundation: Bundle, edge: Bundle, method: MethodSettings) -> Learner:
    return CemaLearner(foundation, edge, method)
