"""A modular bundle under the learners: to them it is an edge model like any other."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import tiny

from driftwell.cloud.cema import CemaLearner
from driftwell.cloud.distiller import Distiller
from driftwell.cloud.learner import Learner
from driftwell.cloud.replay import step_generator
from driftwell.cloud.settings import MethodSettings, method_document
from driftwell.messages.delta import apply_delta
from driftwell.messages.digest import digest_arrays
from driftwell.models.bundle import Bundle
from driftwell.models.normalisation import Scope

BATCH = 32


@pytest.fixture(params=["normalisation", "all"])
def edge(tmp_path: Path, request: pytest.FixtureRequest) -> Bundle:
    scope: Scope = request.param
    return tiny.make_modular(tmp_path, scope)


def distiller(foundation: Bundle, edge: Bundle) -> Learner:
    settings = msgspec.convert(method_document("driftwell"), MethodSettings)
    assert settings.student is not None
    assert settings.versions is not None
    student = msgspec.structs.replace(settings.student, first=BATCH, batch=16, bfloat16=True)
    versions = msgspec.structs.replace(settings.versions, every=1, limit_bytes=8192)
    return Distiller(
        foundation, edge, msgspec.structs.replace(settings, student=student, versions=versions),
        start=None,
    )  # fmt: skip


def cema(foundation: Bundle, edge: Bundle) -> Learner:
    return CemaLearner(foundation, edge, msgspec.convert(method_document("cema"), MethodSettings))


@pytest.mark.parametrize("make", [distiller, cema])
def test_it_learns_and_its_versions_are_applied(foundation: Bundle, edge: Bundle, make) -> None:  # type: ignore[no-untyped-def]
    """What is published moves the whole network's adaptable state, and only by its delta."""
    learner: Learner = make(foundation, edge)
    models, deltas = learner.source, []
    for number in range(4):
        uploads = tiny.make_images(BATCH, seed=number)
        step = learner.step(models, uploads, uploads, step_generator(0, "cam-1", number))
        models = step.models
        deltas += [step.delta] if step.delta is not None else []
    led_to = [apply_delta(edge.source, delta) for delta in deltas]
    network = edge.network()
    before = network.logits(tiny.make_images(5))
    network.install(led_to[-1])

    assert digest_arrays(network.state()) == digest_arrays(led_to[-1])
    assert not np.array_equal(network.logits(tiny.make_images(5)), before)
