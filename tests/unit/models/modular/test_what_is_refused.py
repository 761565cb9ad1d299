"""Networks that would be cut wrongly: what runs, and what sees what, is tried out."""

from collections.abc import Callable

import pytest
import torch
from tests.unit.models.modular.test_decomposition import SLICES, cut, inputs
from torch import Tensor, nn
from torch.nn import functional

from driftwell.messages.errors import BundleError
from driftwell.models.modular.decomposition import Structure, decompose
from driftwell.models.modular.network import ModularNetwork

Between = Callable[[Tensor], Tensor]


class Block(nn.Module):
    """Residual, with something between its two convolutions."""

    def __init__(self, between: Between = torch.relu, width: int = 8) -> None:
        super().__init__()
        self.between = between
        self.conv1, self.bn1 = nn.Conv2d(width, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.between(self.bn1(self.conv1(features)))
        return torch.as_tensor(features + self.bn2(self.conv2(hidden)))


class Standardised(nn.Conv2d):
    """Its weights are scaled by those of all inputs."""

    def forward(self, features: Tensor) -> Tensor:
        weight = self.weight / self.weight.std(dim=(1, 2, 3), keepdim=True)
        return functional.conv2d(features, weight, self.bias, padding=1)


class Parts(nn.Module):
    """Layers that are registered in one way, and used in another."""

    def __init__(self, run: Callable[["Parts", Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 12))
        self.steps = list(self.body)
        self.stem, self.head = nn.Linear(3, 12), nn.Linear(12, 4)
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.run(self, self.stem(images.mean(dim=(2, 3))))))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def by_its_list(parts: Parts, features: Tensor) -> Tensor:
    for step in parts.steps:
        features = step(features)
    return features


def only_in_training(parts: Parts, features: Tensor) -> Tensor:
    return torch.as_tensor(parts.body(features)) if parts.training else features


def within(*layers: nn.Module) -> nn.Module:
    """A network around a part with 8 channels."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 1), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()


def without_copies(network: nn.Module) -> ModularNetwork:
    """One set of slices and the bypass."""
    return cut(network, SLICES + 1, 2)


@pytest.mark.parametrize("run", [by_its_list, only_in_training])
def test_layers_that_never_run_are_no_module_layers(run: Callable[[Parts, Tensor], Tensor]) -> None:
    """Gates in front of them would change nothing."""
    with pytest.raises(BundleError, match=r"body\.0 and body\.2 of Parts cannot be cut"):
        without_copies(Parts(run).eval())


def squeezed(hidden: Tensor) -> Tensor:
    seen = hidden.mean(dim=(2, 3), keepdim=True)
    return hidden * torch.sigmoid(seen.roll(1, dims=1) + seen.sum(dim=1, keepdim=True))


@pytest.mark.parametrize(
    "between",
    [
        lambda hidden: torch.softmax(hidden, dim=1),
        lambda hidden: functional.normalize(hidden, dim=1),
        lambda hidden: hidden - hidden.mean(dim=1, keepdim=True),
        lambda hidden: hidden / hidden.amax(dim=1, keepdim=True).clamp(min=0.1),
        squeezed,
    ],
    ids=["softmax", "normalize", "minus-mean", "by-max", "squeeze"],
)
def test_hidden_channels_that_see_each_other_are_not_dealt_out(between: Between) -> None:
    """All of them at even gates are the old network all the same: some of them are not."""
    with pytest.raises(BundleError, match="see each other"):
        without_copies(within(Block(between)))


def test_weights_that_depend_on_all_channels_are_not_dealt_out() -> None:
    """A convolution of a kind of its own."""
    block = Block()
    block.conv2 = Standardised(8, 8, 3, padding=1)
    with pytest.raises(BundleError, match="see each other"):
        without_copies(within(block))


class OtherOrder(Block):
    """Its second normalisation is not behind the second convolution."""

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.bn2(torch.relu(self.bn1(self.conv1(features))))
        return torch.as_tensor(features + self.conv2(hidden))


def probabilities(block: Block) -> nn.Module:
    """Of a thousand classes."""
    return nn.Sequential(within(block), nn.Linear(5, 1000), nn.Softmax(dim=1)).eval()


def test_small_answers_are_compared_as_large_ones() -> None:
    """Probabilities of a thousand classes differ by less than rounding errors of logits."""
    other = OtherOrder()
    nn.init.uniform_(other.bn2.running_mean, 0.2, 1)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="computes something else"):
        without_copies(probabilities(other))

    assert without_copies(probabilities(Block())).places[0].bypass == "shortcut"


def test_answers_that_are_all_the_same_tell_nothing() -> None:
    """Also those that are not finite."""
    for last in (nn.Threshold(1e9, 0.0), nn.Threshold(1e9, float("inf"))):
        with pytest.raises(BundleError, match="could not be seen"):
            without_copies(nn.Sequential(within(Block()), last).eval())


class SequenceFirst(nn.Module):
    """Tokens are the first axis within, images the second."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.body(tokens.transpose(0, 1)).mean(dim=0)))


@pytest.mark.parametrize("length", [3, 4, 5])
def test_the_number_of_images_is_not_taken_for_another_axis(length: int) -> None:
    """However long the others are."""
    example = torch.zeros(1, length, 6)
    with pytest.raises(BundleError, match="does not run once it is cut"):
        decompose(SequenceFirst().eval(), example, Structure(modules=6, slices=4), seed=0)


def test_a_network_that_fails_is_told() -> None:
    """By itself, or once its hidden channels are others: whatever its code raises."""

    def sure(hidden: Tensor) -> Tensor:
        assert hidden.shape[1] == 8
        return hidden

    with pytest.raises(BundleError, match="once it is cut: AssertionError"):
        cut(within(Block(sure)))
    with pytest.raises(BundleError, match=r"does not run on inputs of \(3, 16, 16\): RuntimeError"):
        cut(within(nn.Conv2d(9, 8, 1), Block()))
    with pytest.raises(BundleError, match=r"'0\.weight' of Sequential is torch\.float64"):
        cut(within(Block()).double())
    with pytest.raises(BundleError, match=r"'0\.weight' of Sequential has no shape yet"):
        cut(nn.Sequential(nn.LazyConv2d(8, 1), Block()))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.arange(4), "int64"),
        (torch.ones(2, dtype=torch.bool), "bool"),
        (torch.full((2,), float("-inf")), "NaN or infinity"),
    ],
)
def test_a_buffer_that_fits_no_piece_is_told_at_once(value: Tensor, says: str) -> None:
    """And not when the bundle is written; one that is not persistent is nobody's concern."""
    network = within(Block())
    network.register_buffer("positions", value, persistent=False)
    assert cut(network)(inputs()).shape == (5, 5)

    network.register_buffer("positions", value)
    with pytest.raises(BundleError, match=f"'positions' of Sequential .*{says}"):
        cut(network)
