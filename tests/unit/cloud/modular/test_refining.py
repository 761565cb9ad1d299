"""A fleet's sub-models learn together, each on the classes of its device."""

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driftwell.cloud.modular.offline_settings import RefiningSettings
from driftwell.cloud.modular.refining import LOOKED_AT, Labelled, Target, judge, refine, settle
from driftwell.messages.images import Pixels
from driftwell.models.modular.decomposition import Structure, decompose, derive
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import read_module, read_trunk

SETTINGS = RefiningSettings(learning_rate=0.01, batch=16, batches=150)
FEW = msgspec.structs.replace(SETTINGS, batches=5)
TARGETS = (
    Target((frozenset({0, 1}),), np.array([0.5, 0.5, 0, 0])),
    Target((frozenset({1, 2}),), np.array([0, 0, 0.5, 0.5])),
)


def clouds() -> Labelled:
    """Four clouds of points in the plane, 60 of each class, as pixels: 16 are a unit."""
    generator = np.random.default_rng(0)
    labels = np.arange(240) % 4
    centres = np.array([[2, 2], [2, -2], [-2, 2], [-2, -2]])
    points = centres[labels] + generator.normal(0, 0.7, (240, 2))
    pixels = np.clip(np.rint(128 + 16 * points), 0, 255).astype(np.uint8)
    return Labelled(pixels.reshape(240, 1, 2, 1), labels)


def prepare(pixels: Pixels) -> Tensor:
    """(N, 1, 2, 1) -> points (N, 2)."""
    return torch.from_numpy((pixels.reshape(len(pixels), 2).astype(np.float32) - 128) / 16)


def untrained() -> ModularNetwork:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    network = nn.Sequential(*network, nn.ReLU(), nn.Linear(4, 4))
    structure = Structure(modules=8, slices=4, active=3, layers=1)
    return decompose(network.eval(), torch.zeros(1, 2), structure, seed=0)


def trained(seed: int = 0, settings: RefiningSettings = SETTINGS) -> ModularNetwork:
    network = untrained()
    refine(network, clouds(), prepare, TARGETS, settings, seed=[seed])
    return network


def test_each_sub_model_learns_its_own_classes() -> None:
    """Nearly all of them, though the two share a module; modules of nobody stay as they were."""
    data = clouds()
    before = derive(untrained(), [[5, 6]])
    network = trained()

    for target in TARGETS:
        classes = np.flatnonzero(target.class_shares)
        own = np.isin(data.labels, classes)
        sub = derive(network, [sorted(layer) for layer in target.modules])
        sub.train()  # by the statistics of these images
        # Only of its classes is asked: what it says of others it was not taught.
        told = sub(prepare(data.images[own]))[:, classes].argmax(dim=1)

        assert (classes[told.numpy()] == data.labels[own]).mean() > 0.95
    place, after = network.places[0], derive(network, [[5, 6]])
    assert torch.equal(
        before.trunk.get_submodule(place.first).get_parameter("weight"),
        after.trunk.get_submodule(place.first).get_parameter("weight"),
    )


def test_only_modules_change() -> None:
    """Trunk and selector are those that every device came with, to the bit."""
    before, after = read_trunk(untrained()), read_trunk(trained(settings=FEW))

    assert all(np.array_equal(before[name], after[name]) for name in before)
    modules = [read_module(one, 0, 1) for one in (untrained(), trained(settings=FEW))]
    for name in ("first.weight", "norm.running_mean", "second.weight"):
        assert not np.array_equal(modules[0][name], modules[1][name])


def test_the_head_learns_if_it_may() -> None:
    """And nothing else of the trunk."""
    network = untrained()
    refine(network, clouds(), prepare, TARGETS, FEW, seed=[0], with_head=True)
    before, after = read_trunk(untrained()), read_trunk(network)

    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"trunk.5.weight", "trunk.5.bias"}


@pytest.mark.parametrize("by_batch", [True, False])
def test_it_is_judged_by_the_loss_of_each_target(*, by_batch: bool) -> None:
    """After training it is smaller for each; judging changes nothing, and draws the same twice."""
    network, data = untrained(), clouds()
    before = judge(network, data, prepare, TARGETS, seed=[5], by_batch=by_batch)
    pieces = read_trunk(network) | read_module(network, 0, 0)

    again = judge(network, data, prepare, TARGETS, seed=[5], by_batch=by_batch)
    np.testing.assert_array_equal(again, before)
    after_it = read_trunk(network) | read_module(network, 0, 0)
    assert all(np.array_equal(pieces[name], after_it[name]) for name in pieces)
    after = judge(trained(), data, prepare, TARGETS, seed=[5], by_batch=by_batch)
    assert (after < 0.5 * before).all()


def test_of_many_targets_some_are_judged() -> None:
    """So that its time is bounded; from all over."""
    losses = judge(
        untrained(), clouds(), prepare, TARGETS * 100, seed=[0], by_batch=True,
    )  # fmt: skip

    assert 2 < len(losses) <= LOOKED_AT


def test_statistics_are_those_of_the_targets_that_hold_a_module() -> None:
    """Of a shared one the mean; what nobody holds, weights and trunk stay."""
    data, before = clouds(), untrained()
    found = []
    for targets in (TARGETS[:1], TARGETS[1:], TARGETS):
        network = untrained()
        settle(network, data, prepare, targets, seed=[1])
        found.append([read_module(network, 0, one) for one in range(7)])
        assert network.trunk.get_submodule(network.places[0].norm or "").momentum == 0.1
        assert not network.training
    name = "norm.running_mean"
    first, second, both = ([piece.get(name, np.zeros(1)) for piece in one] for one in found)

    np.testing.assert_array_equal(both[0], first[0])
    np.testing.assert_array_equal(both[2], second[2])
    assert abs(first[1] - second[1]).max() > 0.05
    np.testing.assert_allclose(both[1], (first[1] + second[1]) / 2, rtol=1e-6)
    for number, piece in enumerate(found[2]):
        was = read_module(before, 0, number)
        assert all(np.array_equal(piece[one], was[one]) for one in was if "running" not in one)
    np.testing.assert_array_equal(both[5], read_module(before, 0, 5)[name])


def test_images_are_drawn_by_class_shares() -> None:
    data = clouds()
    chances = data.chances(np.array([0.25, 0.75, 0, 0]))

    assert chances.sum() == pytest.approx(1)
    assert chances[data.labels == 1].sum() == pytest.approx(0.75)
    assert chances[data.labels > 1].sum() == 0


def test_a_class_without_an_image_leaves_its_share_to_the_others() -> None:
    data = clouds()
    few = Labelled(data.images[data.labels == 0], data.labels[data.labels == 0])

    assert few.chances(np.array([0.5, 0.5, 0, 0])).sum() == pytest.approx(1)
    np.testing.assert_allclose(few.chances(np.array([0, 1.0, 0, 0])), 1 / 60)


def test_the_same_seed_refines_to_the_same_bits() -> None:
    """Whatever else has drawn numbers meanwhile, and without drawing any that others count on."""
    states: list[dict[str, Tensor]] = []
    for seed in (1, 1, 2):
        network = untrained()
        torch.rand(1 + len(states))
        ambient = torch.get_rng_state()
        refine(network, clouds(), prepare, TARGETS, FEW, seed=[seed])
        assert torch.equal(torch.get_rng_state(), ambient)
        states.append(network.state_dict())

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_who_asks_it_to_stop_is_heeded() -> None:
    """Between two batches; the network is in evaluation mode then."""
    network = untrained()

    left = [0, 1, 2]

    def stop() -> None:
        if not left.pop():
            raise InterruptedError

    with pytest.raises(InterruptedError):
        refine(network, clouds(), prepare, TARGETS, SETTINGS, seed=[0], check=stop)
    assert not any(module.training for module in network.modules())
