"""Layers that look like a pair and are none: shared ones, made ones, norms of other axes."""

from collections.abc import Sequence

import msgspec
import pytest
import torch
from tests.unit.models.modular.test_decomposition import SLICES, cut, resnet
from tests.unit.models.modular.test_what_is_refused import Block, within
from torch import Tensor, nn
from torch.nn.utils import weight_norm
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrizations import weight_norm as parametrized_weight_norm

from driftwell.messages.errors import BundleError
from driftwell.models.modular.decomposition import Structure, decompose
from driftwell.models.modular.learning import head_of
from driftwell.models.modular.pairs import find_pairs, require_pairs


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


class Twice(nn.Module):
    """One block under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.b1 = Block(width=3)
        self.b2 = self.b1

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.b2(self.b1(images))).mean(dim=(2, 3))


def test_a_block_with_two_names_is_not_cut() -> None:
    """Under the second it would be in the trunk, and no bundle of it could be opened."""
    with pytest.raises(BundleError, match=r"b1\.conv1 cannot be cut: it is b2\.conv1, too"):
        cut(Twice().eval())

    both = nn.Sequential(Twice(), nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 5), nn.Linear(5, 2))
    assert [place.first for place in cut(both.eval()).places] == ["1"]


class Named(nn.Module):
    """Layers that have names of their own, and stand in a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 6)
        self.net = nn.Sequential(nn.Flatten(), self.fc1, nn.ReLU(), self.fc2)


def test_layers_with_two_names_are_no_pair() -> None:
    """Named twice, standing in a chain twice, or with a parameter that another has, too."""
    with pytest.raises(BundleError, match=r"net\.1 cannot be cut: it is fc1, too"):
        find_pairs(Named(), at_least=SLICES)
    conv = nn.Conv2d(8, 8, 3, padding=1)
    with pytest.raises(BundleError, match="cannot be cut: it is"):
        find_pairs(nn.Sequential(conv, nn.ReLU(), conv), at_least=SLICES)
    tied = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6), nn.Linear(8, 6))
    tied[3].weight = tied[2].weight
    with pytest.raises(BundleError, match=r"2 cannot be cut: it is 3\.weight, too"):
        find_pairs(tied, at_least=SLICES)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_layers_whose_weights_are_made_are_no_pair() -> None:
    """Of a direction and a length, or of an iteration."""
    for makes in (weight_norm, parametrized_weight_norm, spectral_norm):
        made = makes(nn.Conv2d(9, 8, 3))
        network = within(nn.Softsign(), nn.Conv2d(8, 9, 3), nn.ReLU(), made)
        with pytest.raises(BundleError, match="cannot be c"):
            cut(network)
    beside = within(makes(nn.Conv2d(8, 8, 3)), Block())
    assert [place.first for place in cut(beside).places] == ["2.conv1"]


def of_tokens(*layers: nn.Module) -> nn.Module:
    """A network over 5 tokens of 6 values."""
    pooled = nn.AdaptiveAvgPool1d(4)
    return nn.Sequential(*layers, pooled, nn.Flatten(), nn.Linear(20, 3)).eval()


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Linear(6, 8), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(8, 6)),
        (nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6), nn.BatchNorm1d(5)),
        (nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.BatchNorm1d(5, track_running_stats=False)),
    ],
)
def test_a_norm_of_another_axis_or_without_statistics_makes_no_pair(
    layers: Sequence[nn.Module],
) -> None:
    """It cannot be dealt out with the channels, nor folded."""
    with pytest.raises(BundleError, match="cannot be cut into modules"):
        decompose(of_tokens(*layers), torch.zeros(1, 5, 6), Structure(modules=6, slices=4), seed=0)


def test_a_block_without_statistics_is_no_pair() -> None:
    """Its second normalisation could not be folded."""
    block = Block()
    block.bn2 = nn.BatchNorm2d(8, track_running_stats=False)
    with pytest.raises(BundleError, match="cannot be cut into modules"):
        find_pairs(block, at_least=SLICES)


class HeadFirst(nn.Module):
    """What tells classes apart is registered before another linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 12), nn.ReLU(),
            nn.Linear(12, 4),
        )  # fmt: skip
        self.aux = nn.Linear(3, 7)
        self.mixed = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(images, 4)
        mixed = self.mixed(pooled.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return torch.as_tensor(self.classifier(mixed))


def test_the_head_is_the_last_layer_to_run() -> None:
    """Not the last that is registered."""
    modular = cut(HeadFirst().eval())
    assert [place.first for place in modular.places] == ["classifier.1"]
    assert head_of(modular) is modular.trunk.get_submodule("classifier.5")


def test_a_network_that_ends_otherwise_has_no_head() -> None:
    """A linear layer somewhere inside tells no classes apart."""
    inside = nn.Sequential(Block(width=3), nn.Linear(16, 16), nn.Conv2d(3, 5, 1),
                           nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()  # fmt: skip
    with pytest.raises(BundleError, match="tells classes apart"):
        head_of(cut(inside))


def test_a_written_cut_uses_each_layer_once() -> None:
    """Also normalisation layers, and no layer as its own second."""
    network = nn.Sequential(
        Block(),
        Block(),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3)),
    )
    pairs = find_pairs(network, at_least=SLICES)
    require_pairs(network, pairs, at_least=SLICES)
    change = msgspec.structs.replace

    for wrong in (
        (pairs[0], change(pairs[1], norm=pairs[0].norm)),
        (pairs[0], change(pairs[1], fold=pairs[0].norm)),
        (change(pairs[0], second=pairs[0].first),),
    ):
        with pytest.raises(BundleError, match="are no pair of layers"):
            require_pairs(network, wrong, at_least=SLICES)


def test_a_written_bypass_is_one_of_its_block() -> None:
    """What passes on the input twice, or in another shape, was written by somebody else."""
    network = nn.Sequential(Block(), resnet())
    block, *others = find_pairs(network, at_least=SLICES)
    change = msgspec.structs.replace
    require_pairs(network, [change(block, bypass="none"), *others], at_least=SLICES)

    for wrong in [change(block, bypass="identity"), change(others[1], bypass="identity")]:
        with pytest.raises(BundleError, match="is no identity"):
            require_pairs(network, [wrong], at_least=SLICES)
