"""The offline stage: modules learn, the same seed gives the same bits, sub-tasks get modules."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from driftwell.cloud.modular.offline_settings import OfflineSettings
from driftwell.cloud.modular.training import Epoch, mean_gates, train_offline
from driftwell.models.modular.decomposition import Structure, decompose, derive
from driftwell.models.modular.network import ModularNetwork

CLASSES = 4


def clouds(count: int = 240) -> tuple[Tensor, NDArray[np.int64]]:
    """Points around the corners of a square in six dimensions: easy, but not at once."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    centres = np.array([[2, 2], [2, -2], [-2, 2], [-2, -2]])
    points = np.concatenate([centres[labels], np.zeros((count, 4))], axis=1)
    return torch.from_numpy((points + generator.normal(0, 0.7, points.shape)).astype("f4")), labels


def untrained() -> ModularNetwork:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 6), nn.ReLU(),
        nn.Linear(6, CLASSES),
    )  # fmt: skip
    structure = Structure(modules=8, slices=4, active=3, layers=1)
    return decompose(network.eval(), torch.zeros(1, 6), structure, seed=0)


def accuracy(network: nn.Module, inputs: Tensor, labels: NDArray[np.int64]) -> float:
    with torch.inference_mode():
        return float((network(inputs).argmax(dim=1).numpy() == labels).mean())


def test_it_learns_and_reports() -> None:
    """From guessing to nearly all, with a line for each epoch of both stages."""
    inputs, labels = clouds()
    network = untrained()
    told: list[Epoch] = []
    before = accuracy(network, inputs, labels)
    settings = OfflineSettings(joint_epochs=12, ability_epochs=6, learning_rate=0.01)
    train_offline(network, inputs, labels, settings, seed=0, report=told.append)

    assert before < 0.6
    assert accuracy(network, inputs, labels) > 0.95
    assert [epoch.number for epoch in told] == list(range(1, 19))
    assert [epoch.stage for epoch in told] == ["joint"] * 12 + ["ability"] * 6
    assert told[11].loss < told[0].loss


def test_the_same_seed_gives_the_same_bits() -> None:
    """Whatever else has drawn numbers meanwhile."""
    inputs, labels = clouds()
    settings = OfflineSettings(joint_epochs=2, ability_epochs=2)
    states: list[dict[str, Tensor]] = []
    for seed in (1, 1, 2):
        torch.rand(seed + len(states))
        network = untrained()
        train_offline(network, inputs, labels, settings, seed=seed)
        states.append(network.state_dict())

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_a_sub_task_comes_to_need_its_modules_only() -> None:
    """Ability-enhancing training: the gates gather where the labels are, and there is enough."""
    inputs, labels = clouds()
    joint = OfflineSettings(joint_epochs=12, ability_epochs=0, learning_rate=0.01)
    both = OfflineSettings(
        joint_epochs=12, ability_epochs=12, learning_rate=0.01, modules_per_task=2
    )
    loose, gathered = untrained(), untrained()
    assert train_offline(loose, inputs, labels, joint, seed=0) == []
    guides = train_offline(gathered, inputs, labels, both, seed=0)

    on_labelled = []
    for network in (loose, gathered):
        loads = mean_gates(network, inputs, labels)
        assert [load.shape for load in loads] == [(CLASSES, 8)]
        on_labelled.append(float((loads[0] * (guides[0] > 0)).sum(axis=1).mean()))
    assert on_labelled[1] > max(0.7, on_labelled[0])
    only = labels == 1
    sub = derive(gathered, [np.flatnonzero(guides[0][1]).tolist()])
    assert sum(p.numel() for p in sub.trunk.parameters()) < sum(
        p.numel() for p in gathered.trunk.parameters()
    )
    assert accuracy(sub, inputs[torch.from_numpy(only)], labels[only]) > 0.9


@pytest.mark.parametrize("balance", [0.0, 0.3])
def test_the_balance_keeps_all_modules_in_use(balance: float) -> None:
    """With the losses for balance no module's share comes near nothing."""
    inputs, labels = clouds()
    network = untrained()
    settings = OfflineSettings(
        joint_epochs=15, ability_epochs=0, learning_rate=0.02, balance=balance, away=0
    )
    train_offline(network, inputs, labels, settings, seed=0)
    with torch.inference_mode():
        scores, _ = network.selector(inputs)
        use = network.gates(scores)[0].mean(dim=0)

    assert (float(use.min()) > 0.02) == (balance > 0)
