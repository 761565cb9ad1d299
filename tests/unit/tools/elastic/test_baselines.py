"""The baselines do what their papers say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from driftwell.models.footprint import Footprint, measure_peak_bytes
from driftwell.models.training import Effort
from driftwell.tools.elastic import baselines
from driftwell.tools.elastic.baselines import FedAvg, LocalAdaptation, NoAdaptation
from driftwell.tools.elastic.heterofl import HeteroFL, fitting_widths
from driftwell.tools.elastic.method import Method, Pretrained, pretrain, untrained
from driftwell.tools.elastic.methods import METHODS
from driftwell.tools.elastic.nested import (
    Update,
    averaged,
    cut,
    head_names,
    masked_loss,
    parameters_of,
    train_nested,
)
from driftwell.tools.elastic.plan import Shares
from driftwell.tools.elastic.problems import PROBLEMS
from driftwell.tools.elastic.program import mean_accuracy
from driftwell.tools.elastic.samples import read_digits
from driftwell.tools.elastic.training import train
from driftwell.tools.elastic.weights import state_of, weight_bytes, weighted_mean
from driftwell.tools.elastic.world import World, make_world

# Trained little, so that there is something left to learn.
DIGITS = replace(PROBLEMS["digits"], pretraining=Effort(epochs=3, rate=0.001, batch=32))
BYTES = weight_bytes(state_of(untrained(DIGITS, 1.0, seed=0)))


@pytest.fixture(scope="module")
def world() -> World:
    """Three devices with two classes each, two steps."""
    full = Footprint(
        parameters=142_858,
        peak_bytes=measure_peak_bytes(untrained(DIGITS, 1.0, seed=0), DIGITS.shape),
        latency_ms=1000.0,  # no limit of time: how fast this machine is right now decides nothing
    )
    return make_world(
        DIGITS, read_digits(), devices=3, skew=2, steps=2, seed=0, full=full,
        download_bytes=BYTES, shares=Shares(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(world: World) -> Pretrained:
    """What all methods start from."""
    return pretrain(DIGITS, world.proxy, seed=0)


def answers(method: Method, world: World) -> list[list[int]]:
    return [
        method.answer(place, device.test.images).tolist()
        for place, device in enumerate(world.devices)
    ]


def after_two_steps(name: str, world: World, pretrained: Pretrained) -> Method:
    method = METHODS[name](world, 0, pretrained)
    method.prepare()
    for number in range(2):
        method.step(number)
    return method


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides_the_answers(name: str, world: World, pretrained: Pretrained) -> None:
    """Two runs of a method give the same; the network all start from stays as it was."""
    before = weighted_mean([pretrained.state], [1.0])

    first, second = (after_two_steps(name, world, pretrained) for _ in range(2))

    assert answers(first, world) == answers(second, world)
    assert all(torch.equal(before[key], pretrained.state[key]) for key in before)


def test_local_adaptation_beats_none_where_labels_are_skewed(
    world: World, pretrained: Pretrained
) -> None:
    """With two classes to tell apart, and 50 images of them or more."""
    none, local = (after_two_steps(name, world, pretrained) for name in ("none", "local"))

    assert mean_accuracy(local, world) > mean_accuracy(none, world) + 0.5


@pytest.mark.parametrize("name", ["none", "local", "fedavg"])
def test_a_baseline_that_knows_its_classes_is_better(
    name: str, world: World, pretrained: Pretrained
) -> None:
    """With two of ten classes a device; nothing more travels for it."""
    plain, knowing = (after_two_steps(one, world, pretrained) for one in (name, f"{name}+prior"))

    assert mean_accuracy(knowing, world) >= mean_accuracy(plain, world)


def test_traffic_is_what_travels(world: World, pretrained: Pretrained) -> None:
    """The full network once for `none` and `local`, each way and step for `fedavg`."""
    travelled = []
    for make in (NoAdaptation, LocalAdaptation, FedAvg):
        method: Method = make(world, 0, pretrained)
        steps = [method.step(number) for number in range(2)]
        travelled.append([(one.up // BYTES, one.down // BYTES) for one in steps])

    assert travelled == [[(0, 3), (0, 0)], [(0, 3), (0, 0)], [(3, 3), (3, 3)]]


def test_fedavg_of_identical_devices_is_one_device(
    world: World, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same samples in the same order, three devices come to what one comes to."""

    def in_one_order(*arguments: Any, seed: Sequence[int], **others: Any) -> None:
        train(*arguments, seed=seed[:3], **others)  # without the device's number

    monkeypatch.setattr(baselines, "train", in_one_order)
    states = []
    for count in (1, 3):
        method = FedAvg(replace(world, devices=world.devices[:1] * count), 0, pretrained)
        method.step(0)
        states.append(state_of(method._module))

    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_narrow_network_is_a_prefix_of_the_full_one() -> None:
    """Every value at its place."""
    full, half = (parameters_of(untrained(DIGITS, width, seed=0)) for width in (1.0, 0.5))

    narrow = cut(full, half)

    assert narrow["4.weight"].shape == (256, 64)
    assert torch.equal(full["4.weight"][:256, :64], narrow["4.weight"])
    assert {name: one.shape for name, one in narrow.items()} == {
        name: one.shape for name, one in half.items()
    }


def test_full_networks_alone_are_averaged_plainly() -> None:
    """Where all devices have width 1 and all classes, HeteroFL is FedAvg."""
    states = [parameters_of(untrained(DIGITS, 1.0, seed=seed)) for seed in (0, 1)]
    updates = [
        Update(state, range(10), weight) for state, weight in zip(states, (50, 150), strict=True)
    ]
    before = {name: torch.zeros_like(one) for name, one in states[0].items()}

    mean = averaged(before, updates, head_names(untrained(DIGITS, 1.0, seed=0)))

    wanted = weighted_mean(states, [50, 150])
    assert all(torch.equal(wanted[name], mean[name]) for name in wanted)


def test_a_value_is_the_mean_of_those_that_hold_it() -> None:
    """What a narrow device has not comes from the wide one; what nobody has stays."""
    before = {"w": torch.full((4,), 9.0)}
    updates = [Update({"w": torch.zeros(2)}, (0,), 1.0), Update({"w": torch.ones(3)}, (0,), 3.0)]

    assert averaged(before, updates, ())["w"].tolist() == [0.75, 0.75, 1.0, 9.0]


def test_rows_of_the_head_come_from_devices_with_the_class() -> None:
    """The row of a class that a device has no sample of is not its business."""
    before = {"h": torch.full((3, 1), 9.0)}
    updates = [
        Update({"h": torch.zeros(3, 1)}, (0, 1), 1.0),
        Update({"h": torch.ones(3, 1)}, (1,), 1.0),
    ]

    assert averaged(before, updates, ("h",))["h"].flatten().tolist() == [0.0, 0.5, 9.0]


def test_absent_classes_get_no_gradient() -> None:
    """Their logits are 0 in the loss, whatever they are."""
    logits = torch.randn(4, 10, requires_grad=True)

    masked_loss((2, 7), 10)(logits, torch.tensor([2, 7, 2, 2])).backward()

    assert logits.grad is not None
    assert logits.grad.abs().sum(dim=0).nonzero().flatten().tolist() == [2, 7]


def test_nested_training_leaves_its_start_alone(world: World, pretrained: Pretrained) -> None:
    """It gives new parameters; what lies outside all widths does not move."""
    start = parameters_of(pretrained.module(), pretrained.state)
    kept = {name: one.clone() for name, one in start.items()}
    half = untrained(DIGITS, 0.5, seed=0)

    learned = train_nested(start, [half], DIGITS, world.proxy, np.random.default_rng(0))

    assert all(torch.equal(start[name], kept[name]) for name in kept)
    assert torch.equal(learned["4.weight"][256:], start["4.weight"][256:])
    assert not torch.equal(learned["4.weight"][:256, :64], start["4.weight"][:256, :64])


def test_every_device_fits_its_memory(world: World, pretrained: Pretrained) -> None:
    """HeteroFL takes the widest network that does."""
    method = HeteroFL(world, 0, pretrained)
    budgets = [device.budget.memory_bytes for device in world.devices]
    footprints = [method.footprint(place) for place in range(len(budgets))]

    assert all(f.peak_bytes <= most for f, most in zip(footprints, budgets, strict=True))
    assert fitting_widths(DIGITS, [world.full.peak_bytes, 0]) == [1.0, 0.0625]


def test_heterofl_sends_less_than_fedavg(world: World, pretrained: Pretrained) -> None:
    """Up: parameters, and the statistics of every width; down: both of its own width."""
    method = HeteroFL(world, 0, pretrained)
    method.prepare()
    traffic = method.step(0)

    assert 0 < traffic.down < 3 * BYTES
    assert 0 < traffic.up < 3 * BYTES
