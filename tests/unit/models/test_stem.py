"""What lies in front of the first normalisation layer stays the source's for signatures."""

import numpy as np
import pytest
import torch
from tests import tiny
from torch import Tensor, nn

from driftwell.models.bundle import Bundle, create_bundle
from driftwell.models.network import Network
from driftwell.models.own_statistics import follow_own_statistics
from driftwell.models.statistics import StatisticsSettings
from driftwell.models.stem import find_stem

IMAGES = tiny.make_images(64)


class Branched(nn.Module):
    """Two layers side by side in front of the first normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.norm(self.left(images) + self.right(images)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """All of its weights may adapt."""
    return create_bundle(
        tmp_path_factory.mktemp("bundle") / "edge",
        model="tests.tiny:edge",
        weights=tiny.weights_of(tiny.edge()),
        shape=tiny.SHAPE,
        classes=tiny.CLASSES,
        preprocessing=tiny.PREPROCESSING,
        scope="all",
    )


def test_a_version_of_all_weights_changes_no_signature(bundle: Bundle) -> None:
    """Otherwise devices of two versions could not compare what they see."""
    network = bundle.network(own_statistics=StatisticsSettings())
    network.logits(IMAGES)
    before = network.signature()
    network.install(tiny.moved(bundle.source))
    network.logits(IMAGES)
    after = network.signature()

    assert before is not None
    assert after is not None
    assert np.array_equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    network.logits(IMAGES // 2)
    darker = network.signature()
    assert darker is not None
    assert not np.array_equal(darker[0], after[0])


def test_looking_for_the_stem_leaves_no_trace_in_the_statistics(bundle: Bundle) -> None:
    """The first answer is as if nobody had looked."""
    module = bundle.module().eval()
    layers = follow_own_statistics(module, StatisticsSettings())

    assert all(layer.images == 0 for layer in layers)
    network = bundle.network(own_statistics=StatisticsSettings())
    assert network.signature() is None
    assert np.array_equal(
        network.logits(IMAGES),
        bundle.network(own_statistics=StatisticsSettings()).logits(IMAGES),
    )


def test_a_network_says_whether_versions_may_change_its_signatures(bundle: Bundle) -> None:
    """Only one whose weights may all adapt, and whose front is no chain of layers."""
    settings = StatisticsSettings()
    assert bundle.network(own_statistics=settings).has_fixed_signatures
    branched = Network(
        Branched(), bundle.manifest.preprocessing, scope="all", own_statistics=settings
    )
    branched.keep_stem(IMAGES)
    assert not branched.has_fixed_signatures
    narrow = Network(Branched(), bundle.manifest.preprocessing, own_statistics=settings)
    assert narrow.has_fixed_signatures


def test_only_a_chain_of_layers_is_a_stem() -> None:
    """Branches are not taken apart; without own statistics there is nothing to look for."""
    inputs = torch.arange(128.0).reshape(2, 1, 8, 8)
    chain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten())
    assert find_stem(chain.eval(), inputs) is None

    follow_own_statistics(chain, StatisticsSettings())
    stem = find_stem(chain, inputs)
    assert stem is not None
    assert [type(layer) for layer in stem] == [nn.Conv2d, nn.ReLU]
    branched = Branched().eval()
    follow_own_statistics(branched, StatisticsSettings())
    assert find_stem(branched, inputs) is None
