"""The method `driftwell`: sub-models within budgets, and modules that learn from devices."""

from dataclasses import replace

import numpy as np
import pytest

from driftwell.cloud.modular.offline_settings import OfflineSettings, RefiningSettings
from driftwell.models.footprint import Footprint
from driftwell.models.modular.decomposition import Structure
from driftwell.models.training import Effort
from driftwell.tools.elastic.method import Pretrained, pretrain
from driftwell.tools.elastic.modules import ElasticModules, ModuleSettings
from driftwell.tools.elastic.plan import Shares
from driftwell.tools.elastic.problems import PROBLEMS
from driftwell.tools.elastic.program import mean_accuracy
from driftwell.tools.elastic.samples import read_digits
from driftwell.tools.elastic.weights import state_of, weight_bytes
from driftwell.tools.elastic.world import World, make_world

FULL = Footprint(parameters=142_858, peak_bytes=647_232, latency_ms=50.0)
"""With so much time that latency, which no test can foresee, limits nobody."""
QUICK = ModuleSettings(
    structure=Structure(modules=8, slices=4, active=3),
    offline=OfflineSettings(joint_epochs=8, ability_epochs=4),
    local=Effort(epochs=3, rate=0.001, batch=16),
    refining=RefiningSettings(batches=50),
)


@pytest.fixture(scope="module")
def start() -> tuple[World, Pretrained]:
    """Four devices with two classes each."""
    digits = replace(PROBLEMS["digits"], pretraining=Effort(epochs=8, rate=0.002, batch=32))
    world = make_world(
        digits, read_digits(), devices=4, skew=2, steps=3, seed=0, full=FULL,
        download_bytes=570_000, shares=Shares(memory=(0.3, 0.6)),
    )  # fmt: skip
    return world, pretrain(digits, world.proxy, seed=0)


@pytest.fixture(scope="module")
def method(start: tuple[World, Pretrained]) -> ElasticModules:
    made = ElasticModules(start[0], 0, start[1], QUICK)
    made.prepare()
    return made


def test_it_serves_a_fleet(method: ElasticModules, start: tuple[World, Pretrained]) -> None:
    """All within their budgets, as measured; more right than before, for less than one model."""
    world, pretrained = start
    full_bytes = weight_bytes(state_of(pretrained.module()))
    before = float(
        np.mean(
            [
                (method.answer(place, device.test.images) == device.test.labels).mean() * 100
                for place, device in enumerate(world.devices)
            ]
        )
    )
    traffic = [method.step(number) for number in range(3)]

    assert mean_accuracy(method, world) > max(before, 90)
    for place, device in enumerate(world.devices):
        footprint = method.footprint(place)
        assert footprint.peak_bytes <= device.budget.memory_bytes
        assert footprint.parameters < FULL.parameters
    assert traffic[0].down < 4 * full_bytes
    assert all(0 < later.down < traffic[0].down for later in traffic[1:])
    assert all(0 < one.up < full_bytes for one in traffic)


def test_a_device_keeps_its_sub_model_while_nothing_changes(
    start: tuple[World, Pretrained],
) -> None:
    """Its footprint stays; later steps fetch differences, not modules."""
    world, pretrained = start
    made = ElasticModules(world, 1, pretrained, QUICK)
    made.prepare()
    first = made.step(0)
    before = [made.footprint(place) for place in range(len(world.devices))]
    second = made.step(1)

    assert [made.footprint(place) for place in range(len(world.devices))] == before
    assert second.down < first.down / 2


def test_the_same_seed_gives_the_same_answers(start: tuple[World, Pretrained]) -> None:
    """Whatever the machine was busy with: no budget here depends on its clock."""
    world, pretrained = start
    told = []
    for _ in range(2):
        made = ElasticModules(world, 3, pretrained, QUICK)
        made.prepare()
        traffic = made.step(0)
        images = world.devices[1].test.images
        told.append((traffic, made.answer(1, images).tolist()))

    assert told[0] == told[1]


def test_a_device_that_nothing_fits_gets_the_smallest(start: tuple[World, Pretrained]) -> None:
    """It has to answer; the bench counts it as over its budget."""
    world, pretrained = start
    device = world.devices[0]
    poor = replace(device, budget=replace(device.budget, memory_bytes=1000))
    made = ElasticModules(replace(world, devices=(poor,)), 0, pretrained, QUICK)
    made.prepare()
    made.step(0)

    footprint = made.footprint(0)
    assert footprint.peak_bytes > 1000
    assert footprint.parameters < FULL.parameters / 3
    assert len(made.answer(0, poor.test.images)) == len(poor.test)
