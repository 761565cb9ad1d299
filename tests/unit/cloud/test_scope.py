"""CEMA learns weight and bias of normalisation layers, whatever else a bundle lets adapt."""

from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from driftwell.cloud.cema import CemaLearner
from driftwell.cloud.settings import MethodSettings
from driftwell.models.bundle import Bundle, create_bundle

UPLOADS, REPLAY = tiny.make_images(32), tiny.make_images(16, seed=1)


@pytest.fixture
def open_edge(tmp_path: Path) -> Bundle:
    """The edge model with all weights adaptable."""
    return create_bundle(
        tmp_path / "all", model="tests.tiny:edge", weights=tiny.weights_of(tiny.edge()),
        shape=tiny.SHAPE, classes=tiny.CLASSES, preprocessing=tiny.PREPROCESSING, scope="all",
    )  # fmt: skip


def test_a_bundle_that_may_adapt_whole_learns_the_same(
    foundation: Bundle, edge: Bundle, open_edge: Bundle, method: MethodSettings
) -> None:
    """Two steps lead to the same arrays and momentum; what else may adapt keeps every bit."""
    after = []
    for bundle in (edge, open_edge):
        learner = CemaLearner(foundation, bundle, method)
        models = learner.source
        for _ in range(2):
            models = learner.step(models, UPLOADS, REPLAY, tiny.make_generator()).models
        after.append(models.edge)
    narrow, wide = after

    assert list(wide.arrays) == list(open_edge.source)
    for name, array in wide.arrays.items():
        expected = narrow.arrays.get(name, open_edge.source[name])
        assert np.array_equal(array, expected), name
    assert wide.learning.keys() == narrow.learning.keys()
    assert all(np.array_equal(wide.learning[name], narrow.learning[name]) for name in wide.learning)
    assert not np.array_equal(wide.arrays["bn1.weight"], open_edge.source["bn1.weight"])
