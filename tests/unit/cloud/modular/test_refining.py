"""A fleet's sub-models learn together, each on the classes of its device."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.cloud.modular.offline_settings import OfflineSettings
from driftwell.cloud.modular.refining import Tenant, refine
from driftwell.models.modular.decomposition import Structure, decompose, derive
from driftwell.models.modular.network import ModularNetwork

SETTINGS = OfflineSettings(learning_rate=0.01, batch=16)
TENANTS = (
    Tenant((frozenset({0, 1}),), frozenset({0, 1})),
    Tenant((frozenset({1, 2}),), frozenset({2, 3})),
)


def clouds() -> tuple[Tensor, NDArray[np.int64]]:
    """Four clouds of points in the plane, 60 of each class."""
    generator = np.random.default_rng(0)
    labels = np.arange(240) % 4
    centres = np.array([[2, 2], [2, -2], [-2, 2], [-2, -2]])
    return torch.from_numpy(
        (centres[labels] + generator.normal(0, 0.7, (240, 2))).astype("f4")
    ), labels


def untrained() -> ModularNetwork:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    network = nn.Sequential(*network, nn.ReLU(), nn.Linear(4, 4))
    structure = Structure(modules=8, slices=4, active=3, layers=1)
    return decompose(network.eval(), torch.zeros(1, 2), structure, seed=0)


def test_each_sub_model_learns_its_own_classes() -> None:
    """Nearly all of them, though the two share a module; modules of nobody stay as they were."""
    inputs, labels = clouds()
    network = untrained()
    before = derive(network, [[5, 6]])
    refine(network, inputs, labels, TENANTS, SETTINGS, steps=150, seed=0)

    for tenant in TENANTS:
        own = np.isin(labels, sorted(tenant.classes))
        sub = derive(network, [sorted(layer) for layer in tenant.modules])
        sub.train()  # statistics of these images: settled ones are somebody else's business
        # Only of its classes is asked: what it says of others it was not taught.
        told = sub(inputs[torch.from_numpy(own)])[:, sorted(tenant.classes)].argmax(dim=1)
        wanted = labels[own] - min(tenant.classes)

        assert (told.numpy() == wanted).mean() > 0.95
    place, after = network.places[0], derive(network, [[5, 6]])
    assert torch.equal(
        before.trunk.get_submodule(place.first).get_parameter("weight"),
        after.trunk.get_submodule(place.first).get_parameter("weight"),
    )


def test_the_selector_stays_as_it_is() -> None:
    """So what was derived is what it would choose again."""
    inputs, labels = clouds()
    network = untrained()
    before = {name: one.clone() for name, one in network.selector.state_dict().items()}
    refine(network, inputs, labels, TENANTS, SETTINGS, steps=5, seed=0)
    after = network.selector.state_dict()

    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_same_seed_refines_to_the_same_bits() -> None:
    """Whatever else has drawn numbers meanwhile."""
    inputs, labels = clouds()
    states: list[dict[str, Tensor]] = []
    for seed in (1, 1, 2):
        torch.rand(seed + len(states))
        network = untrained()
        refine(network, inputs, labels, TENANTS, SETTINGS, steps=5, seed=seed)
        states.append(network.state_dict())

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])
