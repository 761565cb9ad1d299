"""What becomes of a device's own statistics when modules are replaced."""

from pathlib import Path

import numpy as np
from tests import modular_pieces, tiny
from tests.unit.edge.test_subnetwork import Only, make_node, sub_network

from driftwell.edge.assembly import open_model
from driftwell.edge.subnetwork import ModularModel

SEEN, NEXT = tiny.make_images(32, seed=1), tiny.make_images(32)


def test_statistics_go_on_with_the_same_modules(tmp_path: Path) -> None:
    """New versions of modules come every minute while a fleet learns: nothing is forgotten."""
    bundles = modular_pieces.make_bundles(tmp_path)
    model = open_model(bundles.device.path)
    assert isinstance(model, ModularModel)
    node, steady = (make_node(Only(model, bundles), "own") for _ in range(2))
    for one in (node, steady):
        one.infer(SEEN)
    node.switch(sub_network(model, bundles, node.own_statistics))

    np.testing.assert_array_equal(steady.infer(NEXT).logits, node.infer(NEXT).logits)
