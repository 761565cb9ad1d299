"""A cohort in memory, and the same one again from the ledger."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import tiny

from driftwell.cloud.cohort import Cohort, Work, decode_models, encode_models
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.learner import CohortModels, Learner, Step
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.settings import CloudSettings, MethodSettings, PolicySettings, ReplaySettings
from driftwell.cloud.tables import StoredBatch
from driftwell.messages.codec import encode
from driftwell.messages.digest import digest_arrays
from driftwell.models.bundle import Bundle


def stored(number: int, samples: int, used: int = 0) -> StoredBatch:
    return StoredBatch(number, "cam-1", tiny.SESSION, number, samples, used, 0, b"")


def test_the_oldest_go_first_and_into_the_buffer(learner: Learner) -> None:
    """Peeking leaves everything; using moves the oldest samples to the bounded buffer."""
    cohort = Cohort("home", learner.source, capacity=4)
    images = tiny.make_images(6)
    cohort.push(stored(1, 3), images[:3])
    cohort.push(stored(2, 3), images[3:])

    peeked, taken = cohort.peek(5)
    assert np.array_equal(peeked, images[:5])
    assert [(batch.id, count) for batch, count in taken] == [(1, 3), (2, 2)]
    assert cohort.pending == 6

    cohort.use(5)

    assert (cohort.pending, cohort.buffered, cohort.oldest_batch_id) == (1, 4, 1)
    assert np.array_equal(cohort.peek(1)[0], images[5:])
    assert np.array_equal(cohort.replayed([3, 0], tiny.SHAPE), images[[1, 4]])
    assert cohort.replayed([], tiny.SHAPE).shape == (0, *tiny.SHAPE)


def test_what_was_used_before_goes_to_the_buffer(learner: Learner) -> None:
    """A batch of which two samples were used has the rest pending."""
    cohort = Cohort("home", learner.source, capacity=10)
    images = tiny.make_images(5)

    cohort.push(stored(1, 5, used=2), images)

    assert (cohort.buffered, cohort.pending) == (2, 3)
    assert np.array_equal(cohort.peek(3)[0], images[2:])


def bits(models: CohortModels) -> list[object]:
    states = (models.foundation, models.edge)
    digests = [digest_arrays(part) for s in states for part in (s.arrays, s.learning)]
    return [*digests, models.steps, models.samples]


def test_models_survive_the_ledger_bit_for_bit(learner: Learner) -> None:
    """Arrays, momentum, order and counts come back as they were."""
    models = learner.step(
        learner.source, tiny.make_images(16), tiny.make_images(8), tiny.make_generator()
    ).models

    again = decode_models(encode_models(models), learner.source)

    assert bits(again) == bits(models)
    assert list(again.edge.arrays) == list(models.edge.arrays)
    assert bits(decode_models(encode_models(learner.source), learner.source)) == bits(
        learner.source
    )


@pytest.fixture
def settings(foundation: Bundle, edge: Bundle, method: MethodSettings) -> CloudSettings:
    quick = msgspec.structs.replace(
        method,
        replay=ReplaySettings(capacity=40, minimum=16, batch=8),
        policy=PolicySettings(batch=16, minimum_batch=4),
    )
    return CloudSettings(foundation=foundation.path, edge=edge.path, method=quick)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path)) as opened:
        yield opened


def make_consumer(
    settings: CloudSettings, edge: Bundle, learner: Learner, ledger: Ledger
) -> Consumer:
    return Consumer(
        settings, edge=edge, learner=learner, ledger=ledger, key=tiny.KEY,
        session=tiny.CLOUD_SESSION, wall_ns=lambda: tiny.NOW_NS, software="test",
    )  # fmt: skip


def feed(consumer: Consumer, edge: Bundle, seqs: range) -> None:
    for seq in seqs:
        batch = tiny.make_batch(tiny.make_images(10, seed=seq), model=edge.digest, seq=seq)
        consumer.take_samples(batch, encode(batch))


def run(consumer: Consumer, work: Work) -> Step:
    return consumer.learner.step(work.cohort.models, work.uploads, work.replay, work.generator)


async def test_a_restored_cohort_goes_on_as_the_living_one(
    settings: CloudSettings, edge: Bundle, learner: Learner, ledger: Ledger
) -> None:
    """After any number of steps, a restart in between changes no bit of the next step."""
    alive = make_consumer(settings, edge, learner, ledger)
    feed(alive, edge, range(1, 13))
    for _ in range(6):
        restored = make_consumer(settings, edge, learner, ledger)
        restored.restore()
        work, again = alive.next_work(), restored.next_work()
        assert work is not None
        assert again is not None

        step, same = run(alive, work), run(restored, again)

        assert np.array_equal(work.uploads, again.uploads)
        assert np.array_equal(work.replay, again.replay)
        assert bits(step.models) == bits(same.models)
        assert again.cohort.version == work.cohort.version
        assert alive.commit(work, step) is not None

    cohort = alive.cohorts["cam-1"]
    assert (cohort.version, cohort.buffered) == (6, 40)
    assert ledger.books()["cam-1"] == {"stored": 120, "trained": 96, "pending": 24}


async def test_a_diverged_cohort_begins_anew(
    settings: CloudSettings, edge: Bundle, learner: Learner, ledger: Ledger
) -> None:
    """A step that is not finite makes no version, books its samples, and goes to the source."""
    consumer = make_consumer(settings, edge, learner, ledger)
    feed(consumer, edge, range(1, 5))
    work = consumer.next_work()
    assert work is not None
    step = run(consumer, work)
    step.models.edge.arrays["bn1.bias"][0] = np.nan

    assert consumer.commit(work, step) is None

    assert bits(work.cohort.models) == bits(learner.source)
    assert list(ledger.versions()) == []
    assert ledger.books()["cam-1"]["rejected:diverged"] == 16
