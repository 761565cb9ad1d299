"""Sub-models to train with are drawn within limits, by what is needed most."""

import torch

from driftwell.cloud.modular.drawing import draw_sub_model

SIZES = [torch.tensor([10.0, 10, 10, 0]).double(), torch.tensor([100.0, 100, 100]).double()]
EVEN = [torch.zeros(5, 4), torch.zeros(5, 3)]


def drawn(scores: list[torch.Tensor], away: float, count: int = 200) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [draw_sub_model(scores, SIZES, away, generator) for _ in range(count)]


def test_without_absence_all_are_there() -> None:
    """The limit is all there is."""
    for layers in drawn(EVEN, 0.0, count=20):
        assert all(bool(layer.all()) for layer in layers)


def test_every_layer_has_a_module() -> None:
    """Also where the limit leaves no room for one."""
    for first, second in drawn(EVEN, 0.95):
        assert first.any()
        assert second.any()


def test_small_modules_are_left_out_last() -> None:
    """As in a plan, importance counts by its cost."""
    layers = drawn(EVEN, 0.95)
    first = torch.stack([one for one, _ in layers]).double().mean(dim=0)
    second = torch.stack([two for _, two in layers]).double().mean(dim=0)

    assert float(first[:3].mean()) > float(second.mean()) + 0.2
    assert float(first[3]) > 0.95


def test_what_is_needed_is_drawn_more_often() -> None:
    """A module with ten times the gate of another is rarely left out for it."""
    scores = [EVEN[0], torch.log(torch.tensor([[10.0, 1.0, 1.0]]))]
    second = torch.stack([two for _, two in drawn(scores, 0.95)]).double().mean(dim=0)

    assert float(second[0]) > float(second[1:].max()) + 0.2
