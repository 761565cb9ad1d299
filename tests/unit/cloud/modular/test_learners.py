"""A modular bundle under the learners: to them it is an edge model like any other."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from tests import tiny, tiny_modular

from driftwell.cloud.cema import CemaLearner
from driftwell.cloud.distiller import Distiller
from driftwell.cloud.learner import Learner
from driftwell.cloud.replay import step_generator
from driftwell.cloud.settings import GateSettings, MethodSettings, method_document
from driftwell.messages.delta import apply_delta, encode_delta
from driftwell.messages.digest import digest_arrays
from driftwell.models.bundle import Bundle
from driftwell.models.normalisation import Scope

BATCH = 32


@pytest.fixture(params=["normalisation", "all"])
def edge(tmp_path: Path, request: pytest.FixtureRequest) -> Bundle:
    scope: Scope = request.param
    return tiny_modular.make_modular(tmp_path, scope)


def distiller(foundation: Bundle, edge: Bundle) -> Learner:
    settings = msgspec.convert(method_document("driftwell"), MethodSettings)
    assert settings.student is not None
    assert settings.versions is not None
    student = msgspec.structs.replace(
        settings.student, first=BATCH, batch=16, learning_rate=0.01, bfloat16=True
    )
    versions = msgspec.structs.replace(settings.versions, every=2, limit_bytes=8192)
    gate = GateSettings(tolerance=1000, diversity=0)  # noise has no truth to agree with
    settings = msgspec.structs.replace(settings, student=student, versions=versions, gate=gate)
    return Distiller(foundation, edge, settings, start=None)


def cema(foundation: Bundle, edge: Bundle) -> Learner:
    return CemaLearner(foundation, edge, msgspec.convert(method_document("cema"), MethodSettings))


def versions(learner: Learner, count: int) -> list[Mapping[str, NDArray[np.float32]]]:
    """The edge model after each step that changed it."""
    models = learner.source
    made: list[Mapping[str, NDArray[np.float32]]] = []
    for number in range(count):
        uploads = tiny.make_images(BATCH, seed=number)
        replay = np.concatenate([tiny.make_images(BATCH, seed=one) for one in range(number)] or
                                [uploads[:0]])  # fmt: skip
        step = learner.step(models, uploads, replay, step_generator(0, "cam-1", number))
        assert step.is_finite
        if digest_arrays(step.models.edge.arrays) != digest_arrays(models.edge.arrays):
            made.append(step.models.edge.arrays)
        models = step.models
    return made


@pytest.mark.parametrize("make", [distiller, cema])
def test_it_learns_and_its_versions_are_applied(
    foundation: Bundle, edge: Bundle, make: Callable[[Bundle, Bundle], Learner]
) -> None:
    """A version moves the adaptable state of the whole network, and a delta brings it about."""
    *_, newest = versions(make(foundation, edge), 6)
    led_to = apply_delta(edge.source, encode_delta(edge.source, newest))
    network = edge.network()
    before = network.logits(tiny.make_images(5))
    network.install(led_to)

    assert newest.keys() == edge.source.keys()
    assert not np.array_equal(newest["trunk.1.bn1.weight"], edge.source["trunk.1.bn1.weight"])
    assert not np.array_equal(network.logits(tiny.make_images(5)), before)
