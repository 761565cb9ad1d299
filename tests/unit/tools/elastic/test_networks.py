"""The full networks, and the narrow ones in them."""

import pytest
import torch

from driftwell.tools.elastic import networks
from driftwell.tools.elastic.networks import channels, slim_resnet
from driftwell.tools.elastic.problems import PROBLEMS, Problem

problems = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


@problems
@pytest.mark.parametrize("width", [1.0, 0.5, 0.0625])
def test_a_network_of_any_width_answers(problem: Problem, width: float) -> None:
    """Logits of all classes."""
    height, across, depth = problem.shape
    logits = problem.network(width).eval()(torch.zeros(3, depth, height, across))

    assert logits.shape == (3, problem.classes)


@problems
def test_narrow_parameters_are_prefixes_in_shape(problem: Problem) -> None:
    """The same names, and along no axis longer than the full network's."""
    full = dict(problem.network(1.0).named_parameters())
    narrow = dict(problem.network(0.25).named_parameters())

    assert narrow.keys() == full.keys()
    for name, one in narrow.items():
        assert all(a <= b for a, b in zip(one.shape, full[name].shape, strict=True))


@problems
def test_a_factory_is_found_by_its_name(problem: Problem) -> None:
    """So it can be pickled, and a run can go to another process."""
    assert getattr(networks, problem.network.__name__) is problem.network


def test_most_of_the_resnet_is_in_its_last_stage() -> None:
    """As in ResNet-18: so memory is what modules take, not what images do."""
    full = slim_resnet()
    last = sum(one.numel() for one in full.get_submodule("layer4").parameters())

    assert last > 0.7 * sum(one.numel() for one in full.parameters())


def test_a_narrow_resnet_is_a_part_of_the_full_one() -> None:
    """Where the full one's other channels are silenced, both give the same features."""
    full, half = slim_resnet(1.0).eval(), slim_resnet(0.5).eval()
    own = dict(half.named_parameters())
    with torch.no_grad():
        for name, one in full.named_parameters():
            corner = tuple(slice(size) for size in own[name].shape)
            kept = one[corner].clone()
            one.zero_()
            one[corner] = kept
            own[name].copy_(kept)
    images = torch.rand(4, 3, 32, 32)

    assert torch.allclose(full(images), half(images), atol=1e-5)


@pytest.mark.parametrize("width", [0.0, -1.0, 1.5])
def test_a_width_is_a_share(width: float) -> None:
    """Above 0 and at most 1."""
    with pytest.raises(ValueError, match="width"):
        channels(16, width)
