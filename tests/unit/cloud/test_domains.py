"""What a cohort forgets when one of its devices has drifted, and how a cohort begins."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests import tiny
from tests.unit.cloud.test_cohort import make_consumer, run
from tests.unit.cloud.test_distiller import bundle, method

from driftwell.cloud.beginnings import begin_cohorts
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.distiller import Distiller
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.settings import CloudSettings
from driftwell.edge.packing import Selection, pack_selection, stamp
from driftwell.messages.codec import decode
from driftwell.messages.samples import SampleBatch
from driftwell.messages.state import State
from driftwell.models.bundle import Bundle

BATCH = 64


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle(tmp_path_factory.mktemp("bundle") / "edge", seed=0)


def open_consumer(
    folder: Path, foundation: Bundle, edge: Bundle, start: Bundle | None = None
) -> Consumer:
    settings = CloudSettings(foundation=foundation.path, edge=edge.path, method=method())
    learner = Distiller(foundation, edge, settings.method, start=start)
    folder.mkdir(exist_ok=True)
    return make_consumer(settings, edge, learner, Ledger(folder))


def feed(consumer: Consumer, edge: Bundle, *, device: str, seq: int, domain: int) -> None:
    """Send one full batch, as the device's own code packs it."""
    selection = Selection(
        tiny.make_images(BATCH, seed=seq),
        np.arange(BATCH, dtype=np.uint64),
        np.zeros(BATCH, np.float32),
        np.zeros(BATCH, np.uint16),
        domain,
    )
    packed, _ = pack_selection(
        selection, device=device, cohort="home", model=edge.digest, clock_ns=1, limit_bytes=100_000
    )
    payload = stamp(packed[0][0], session=tiny.SESSION, seq=seq, oldest_seq=1, limit_bytes=100_000)
    message = decode(payload, limit_bytes=100_000)
    assert isinstance(message, SampleBatch)
    assert message.domain == domain
    consumer.take_samples(message, payload)


def learn(consumer: Consumer) -> None:
    while (work := consumer.next_work()) is not None:
        consumer.commit(work, run(consumer, work))


def test_a_drifted_device_takes_its_old_images_out_of_the_buffer(
    foundation: Bundle, edge: Bundle, tmp_path: Path
) -> None:
    """Those of another device stay; a restart before the next step changes nothing."""
    alive = open_consumer(tmp_path, foundation, edge)
    feed(alive, edge, device="cam-1", seq=1, domain=0)
    feed(alive, edge, device="cam-2", seq=1, domain=0)
    feed(alive, edge, device="cam-1", seq=2, domain=0)
    learn(alive)
    assert alive.cohorts["home"].buffered == 3 * BATCH

    feed(alive, edge, device="cam-1", seq=3, domain=1)
    restored = open_consumer(tmp_path, foundation, edge)
    restored.restore()
    work, again = alive.next_work(), restored.next_work()

    assert work is not None
    assert again is not None
    assert len(work.replay) == BATCH
    assert np.array_equal(work.replay, tiny.make_images(BATCH, seed=1))
    assert np.array_equal(work.replay, again.replay)
    step, same = run(alive, work), run(restored, again)
    assert np.array_equal(step.models.targets, same.models.targets)
    assert len(step.models.targets) == 2 * BATCH
    alive.commit(work, step)
    assert alive.cohorts["home"].buffered == 2 * BATCH


def birth(edge: Bundle, model: str = "") -> State:
    return State(
        device="cam-1", session=tiny.SESSION, seq=1, clock_ns=1, model=model or edge.digest,
        status="ready", cohort="home", version=0, result=edge.manifest.source_digest,
    )  # fmt: skip


def test_a_cohort_begins_with_the_start_state(
    foundation: Bundle, edge: Bundle, tmp_path: Path
) -> None:
    """At the birth of its first device, once, and not after a restart."""
    start = bundle(tmp_path / "hardened", seed=1)
    consumer = open_consumer(tmp_path / "state", foundation, edge, start)
    consumer.take_state(birth(edge))
    consumer.take_state(birth(edge))

    made = list(begin_cohorts(consumer))
    consumer.ledger.close()
    again = open_consumer(tmp_path / "state", foundation, edge, start)
    with closing(again.ledger):
        again.restore()
        again.take_state(birth(edge))

        assert [(version.cohort, version.version) for version in made] == [("home", 1)]
        assert list(begin_cohorts(again)) == []
        assert again.cohorts["home"].version == 1
        learned = again.cohorts["home"].models.edge.arrays["conv1.weight"]
        assert not np.array_equal(learned, edge.source["conv1.weight"])


def test_a_device_of_another_model_begins_no_cohort(
    foundation: Bundle, edge: Bundle, tmp_path: Path
) -> None:
    """Nor does any where there is no start state."""
    start = bundle(tmp_path / "hardened", seed=1)
    foreign = open_consumer(tmp_path / "one", foundation, edge, start)
    foreign.take_state(birth(edge, model="f" * 64))
    plain = open_consumer(tmp_path / "two", foundation, edge)
    plain.take_state(birth(edge))

    for consumer in (foreign, plain):
        assert list(begin_cohorts(consumer)) == []
        assert consumer.cohorts == {}
