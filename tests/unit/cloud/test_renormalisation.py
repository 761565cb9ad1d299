"""Test-time batch renormalisation: the value of evaluation, the gradient of training."""

import copy

import pytest
import torch
from torch import nn

from driftwell.cloud.renormalisation import RenormalisedBatchNorm, renormalise


def make_layer(momentum: float = 0.1) -> RenormalisedBatchNorm:
    layer = nn.BatchNorm2d(3)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(3, generator=generator) + 0.5)
        layer.bias.copy_(torch.rand(3, generator=generator))
    layer.running_mean = torch.tensor([0.5, -0.25, 0.0])
    layer.running_var = torch.tensor([2.0, 1.0, 0.5])
    return RenormalisedBatchNorm(layer, momentum)


def features(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(8, 3, 4, 4, generator=generator) + 1


def test_training_gives_the_value_of_evaluation() -> None:
    """The output in training is that of evaluation with the running statistics just moved."""
    layer = make_layer()
    trained = layer.train()(features())

    torch.testing.assert_close(trained, layer.eval()(features()), rtol=1e-5, atol=1e-5)


def test_the_statistics_move_by_the_momentum() -> None:
    """Each running statistic goes a tenth of the way to the batch's."""
    layer = make_layer()
    layer.train()(features())

    mean = features().mean(dim=(0, 2, 3))
    variance = features().var(dim=(0, 2, 3), unbiased=True)
    old_mean, old_variance = torch.tensor([0.5, -0.25, 0.0]), torch.tensor([2.0, 1.0, 0.5])
    torch.testing.assert_close(layer.running_mean, 0.9 * old_mean + 0.1 * mean)
    torch.testing.assert_close(layer.running_var, 0.9 * old_variance + 0.1 * variance)


def test_evaluation_moves_nothing() -> None:
    """In evaluation the layer is the BatchNorm it stands in for."""
    layer = make_layer()
    before = copy.deepcopy(layer.state_dict())
    plain = nn.BatchNorm2d(3)
    plain.load_state_dict(before, strict=False)

    torch.testing.assert_close(layer.eval()(features()), plain.eval()(features()))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_a_fresh_layer_takes_the_first_batch_as_it_is() -> None:
    """Fresh once: the first batch's statistics replace, the second's are averaged in."""
    layer = make_layer().train()
    layer.is_fresh = True
    layer(features())
    torch.testing.assert_close(layer.running_mean, features().mean(dim=(0, 2, 3)))
    first = layer.running_mean.clone()
    assert not layer.is_fresh

    layer(features(1) + 10)

    expected = 0.9 * first + 0.1 * (features(1) + 10).mean(dim=(0, 2, 3))
    torch.testing.assert_close(layer.running_mean, expected)


def test_gradients_flow_through_the_batchs_statistics() -> None:
    """The gradient for the input is that of BatchNorm in training, scaled by the constant r."""
    layer = make_layer().train()
    inputs = features().requires_grad_(True)
    towards = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(9))
    (layer(inputs) * towards).sum().backward()

    plain_inputs = features().requires_grad_(True)
    mean = plain_inputs.mean(dim=(0, 2, 3), keepdim=True)
    deviation = (plain_inputs.var(dim=(0, 2, 3), unbiased=True, keepdim=True) + 1e-5).sqrt()
    r = deviation.detach() / (layer.running_var + 1e-5).sqrt().view(1, 3, 1, 1)
    assert layer.weight is not None
    value = (plain_inputs - mean) / deviation * r * layer.weight.view(1, 3, 1, 1)
    (value * towards).sum().backward()

    assert inputs.grad is not None
    assert inputs.grad.abs().max() > 0
    torch.testing.assert_close(inputs.grad, plain_inputs.grad, rtol=1e-4, atol=1e-5)
    assert layer.weight.grad is not None


def test_every_layer_with_statistics_is_replaced() -> None:
    """Nested layers too, names kept; a layer without statistics stays, and is no stand-in."""
    network = nn.Sequential(
        nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm2d(2)),
        nn.BatchNorm2d(2, track_running_stats=False),
    )  # fmt: skip
    names = {name for name in network.state_dict() if "num_batches" not in name}

    replaced = renormalise(network, 0.1)

    assert len(replaced) == 2
    assert set(network.state_dict()) == names
    assert isinstance(network[2], nn.BatchNorm2d)
    with pytest.raises(ValueError, match="running statistics"):
        RenormalisedBatchNorm(nn.BatchNorm2d(2, track_running_stats=False), 0.1)
