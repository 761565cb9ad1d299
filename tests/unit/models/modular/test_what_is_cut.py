"""Networks that look as if they could be cut: names and places are not believed."""

import pytest
import torch
from tests.unit.models.modular.test_decomposition import SLICES, cut, inputs, resnet
from torch import Tensor, nn

from driftwell.messages.errors import BundleError
from driftwell.models.modular.pairs import find_pairs


def test_what_cannot_be_cut_is_told() -> None:
    """Depthwise convolutions, single layers, and blocks that are too narrow."""
    depthwise = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=12))
    for module in (depthwise, nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), nn.Identity()):
        with pytest.raises(BundleError, match="cannot be cut into modules"):
            find_pairs(module, at_least=2)
    with pytest.raises(BundleError, match="65 channels"):
        find_pairs(resnet(), at_least=65)


class PreActivation(nn.Module):
    """Its layers have the names of a ResNet's block, and another order."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels_in), nn.Conv2d(channels_in, 8, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(8), nn.Conv2d(8, channels_out, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.conv1(torch.relu(self.bn1(features)))
        return torch.as_tensor(self.conv2(torch.relu(self.bn2(hidden))).mean(dim=(2, 3)))


class Attending(nn.Module):
    """Its hidden channels see each other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.softmax(5 * self.bn1(self.conv1(images)), dim=1)
        return torch.as_tensor((images + self.bn2(self.conv2(hidden))).mean(dim=(2, 3)))


class NoShortcut(nn.Module):
    """The same names, and nothing goes around."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(images)))))
        return torch.as_tensor(hidden.mean(dim=(2, 3)))


def test_a_network_that_would_compute_something_else_is_refused() -> None:
    """Names are not believed: the cut network must give the old answers."""
    block = PreActivation(8, 8)
    for norm in (block.bn1, block.bn2):
        nn.init.uniform_(norm.running_var, 0.2, 3)  # type: ignore[arg-type]
        nn.init.uniform_(norm.running_mean, -0.3, 0.3)  # type: ignore[arg-type]

    with pytest.raises(BundleError, match="does not run once it is cut"):
        cut(nn.Sequential(nn.Conv2d(3, 8, 1), block).eval())
    with pytest.raises(BundleError, match="cannot be cut"):
        cut(PreActivation(3, 5).eval())
    with pytest.raises(BundleError, match="computes something else"):
        cut(Attending().eval())


def test_a_block_without_a_shortcut_has_no_bypass() -> None:
    """One that does nothing would leave nothing of the image."""
    modular = cut(NoShortcut().eval())

    assert modular.places[0].bypass == "none"
    assert 0 not in modular.places[0].widths


def test_an_activation_that_is_used_twice_is_not_overlooked() -> None:
    """The normalisation behind it must not be folded through it."""
    act = nn.ReLU()
    chain = nn.Sequential(
        nn.Conv2d(3, 8, 3), act, nn.Conv2d(8, 4, 3), act, nn.BatchNorm2d(4), nn.Flatten()
    ).eval()
    nn.init.uniform_(chain[4].running_mean, 0.2, 1)  # type: ignore[arg-type]

    assert [pair.fold for pair in find_pairs(chain, at_least=SLICES)] == [None]
    assert cut(chain)(inputs()).shape == chain(inputs()).shape
