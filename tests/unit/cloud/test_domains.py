"""How domains of a cohort come to be, part and meet again, and how a cohort begins."""

import sqlite3
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
from driftwell.cloud.heads import encode_head, readers
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.settings import CloudSettings
from driftwell.cloud.tables import StoredVersion
from driftwell.edge.domains import Place
from driftwell.edge.packing import Selection, pack_selection, stamp
from driftwell.messages.ack import Ack
from driftwell.messages.codec import decode
from driftwell.messages.names import EVERYONE
from driftwell.messages.samples import SampleBatch
from driftwell.messages.signature import PackedSignature, make_signature, unpack_signature
from driftwell.messages.signing import read_manifest
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


def feed(
    consumer: Consumer,
    edge: Bundle,
    *,
    seq: int,
    place: float,
    device: str = "cam-1",
    drifts: int = 0,
    domain: int | None = None,
) -> Ack:
    """Send one full batch, as the device's own code packs it; `place` is where it looks to be."""
    selection = Selection(
        tiny.make_images(BATCH, seed=seq),
        np.arange(BATCH, dtype=np.uint64),
        np.zeros(BATCH, np.float32),
        np.zeros(BATCH, np.uint16),
        Place(drifts, domain, make_signature([place], [1.0], images=BATCH)),
    )
    packed, _ = pack_selection(
        selection, device=device, cohort="home", model=edge.digest, clock_ns=1, limit_bytes=100_000
    )
    payload = stamp(packed[0][0], session=tiny.SESSION, seq=seq, oldest_seq=1, limit_bytes=100_000)
    message = decode(payload, limit_bytes=100_000)
    assert isinstance(message, SampleBatch)
    ack = consumer.take_samples(message, payload)
    assert ack is not None
    return ack


def learn(consumer: Consumer) -> None:
    while (work := consumer.next_work()) is not None:
        consumer.commit(work, run(consumer, work))


def told(ack: Ack) -> tuple[object, object]:
    return ack.drifts, ack.domain


def test_devices_that_see_the_same_share_a_domain(
    foundation: Bundle, edge: Bundle, tmp_path: Path
) -> None:
    """One that drifts leaves for another, with what was learned, and comes back to the first."""
    cloud = open_consumer(tmp_path, foundation, edge)
    assert told(feed(cloud, edge, seq=1, place=0.0)) == (0, 0)
    assert told(feed(cloud, edge, seq=1, place=0.1, device="cam-2")) == (0, 0)
    learn(cloud)
    home = cloud.cohorts["home"]
    learned = home.models

    assert told(feed(cloud, edge, seq=2, place=3.0, drifts=1)) == (1, 1)

    away = cloud.cohorts["home/1"]
    assert cloud.cohorts.hand_down() == ["home/1"]
    assert (away.members, away.models.steps, len(away.models.targets)) == ({"cam-1"}, 0, 0)
    for name, array in learned.edge.arrays.items():
        assert np.array_equal(away.models.edge.arrays[name], array)
    learn(cloud)
    assert home.models is learned
    assert (home.buffered, away.buffered) == (2 * BATCH, BATCH)
    assert told(feed(cloud, edge, seq=3, place=0.0, drifts=2)) == (2, 0)
    assert home.pending == BATCH


def test_a_cloud_that_is_behind_opens_the_same_domains(
    foundation: Bundle, edge: Bundle, tmp_path: Path
) -> None:
    """A domain begins with what its samples lead to, not with what is learned by chance by then.

    Also if the cloud is killed while the new domain waits.
    """
    clouds = [
        open_consumer(tmp_path / name, foundation, edge) for name in ("eager", "lazy", "dead")
    ]
    stream = [(0.0, 0)] * 3 + [(3.0, 1)] * 2 + [(0.0, 2)] * 2 + [(6.0, 3)] * 2
    for seq, (place, drifts) in enumerate(stream, 1):
        for cloud in clouds:
            feed(cloud, edge, seq=seq, place=place, drifts=drifts)
        learn(clouds[0])
    clouds[2].ledger.close()
    clouds[2] = open_consumer(tmp_path / "dead", foundation, edge)
    clouds[2].restore()
    assert not clouds[1].is_done_with("cam-1", tiny.SESSION)
    for cloud in clouds[1:]:
        learn(cloud)

    eager, *others = clouds
    assert list(eager.cohorts) == ["home", "home/1", "home/2"]
    for cloud in others:
        for name, cohort in eager.cohorts.items():
            same = cloud.cohorts[name]
            assert (same.models.steps, same.result) == (cohort.models.steps, cohort.result)
            for array, value in cohort.models.edge.arrays.items():
                assert np.array_equal(same.models.edge.arrays[array], value)
            for array, value in cohort.models.edge.learning.items():
                assert np.array_equal(same.models.edge.learning[array], value)


def test_a_disk_that_fails_keeps_no_domain_from_its_models(
    foundation: Bundle, edge: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are handed down when it takes them again, before anything else is learned."""
    cloud = open_consumer(tmp_path, foundation, edge)
    feed(cloud, edge, seq=1, place=0.0)
    learn(cloud)
    feed(cloud, edge, seq=2, place=3.0, drifts=1)
    home, away = cloud.cohorts["home"], cloud.cohorts["home/1"]

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(cloud.ledger, "use", fail)
        with pytest.raises(sqlite3.OperationalError):
            cloud.next_work()

    work = cloud.next_work()
    assert work is not None
    assert work.cohort is away
    for name, array in home.models.edge.arrays.items():
        assert np.array_equal(away.models.edge.arrays[name], array)


def test_a_repeated_batch_moves_nobody(foundation: Bundle, edge: Bundle, tmp_path: Path) -> None:
    """It opens no domain, and the device stays where its newest samples went."""
    cloud = open_consumer(tmp_path, foundation, edge)
    feed(cloud, edge, seq=1, place=0.0)
    assert told(feed(cloud, edge, seq=2, place=3.0, drifts=1)) == (1, 1)

    assert told(feed(cloud, edge, seq=1, place=9.0)) == (1, 1)

    assert list(cloud.cohorts) == ["home", "home/1"]
    assert cloud.counters["duplicates"] == 1


def test_a_session_is_settled_when_all_its_domains_are(
    foundation: Bundle, edge: Bundle, tmp_path: Path
) -> None:
    """A full batch waits in one domain, a few samples in the other."""
    cloud = open_consumer(tmp_path, foundation, edge)
    feed(cloud, edge, seq=1, place=0.0)
    learn(cloud)
    feed(cloud, edge, seq=2, place=0.0)
    ack = feed(cloud, edge, seq=3, place=3.0, drifts=1)

    assert ack.settled_seq < 3
    learn(cloud)
    assert cloud.settle("cam-1", tiny.SESSION).settled_seq == 3


def test_domains_are_the_same_after_a_restart(
    foundation: Bundle, edge: Bundle, tmp_path: Path
) -> None:
    """Models, buffers and looks: the same samples go the same way and lead to the same step."""
    alive = open_consumer(tmp_path, foundation, edge)
    for seq, (place, drifts) in enumerate([(0.0, 0), (0.0, 0), (3.0, 1)], 1):
        feed(alive, edge, seq=seq, place=place, drifts=drifts)
    learn(alive)
    feed(alive, edge, seq=4, place=3.0, drifts=1)
    restored = open_consumer(tmp_path, foundation, edge)
    restored.restore()

    work, again = alive.next_work(), restored.next_work()

    assert work is not None
    assert again is not None
    assert work.cohort.name == again.cohort.name == "home/1"
    assert np.array_equal(work.replay, again.replay)
    step, same = run(alive, work), run(restored, again)
    assert np.array_equal(step.models.targets, same.models.targets)
    for name, array in step.models.edge.arrays.items():
        assert np.array_equal(same.models.edge.arrays[name], array)
    assert told(feed(restored, edge, seq=5, place=0.0, drifts=2)) == (2, 0)


def test_versions_say_what_their_domain_looks_like(
    foundation: Bundle, edge: Bundle, tmp_path: Path
) -> None:
    """And travel on the domain's own topic, which a device that shares no cohort has, too."""
    cloud = open_consumer(tmp_path, foundation, edge)
    feed(cloud, edge, seq=1, place=0.0)
    versions = [v for seq in range(2, 9) for v in after(cloud, edge, seq=seq)]

    assert {version.cohort for version in versions} == {"home/1"}
    manifest = read_manifest(versions[-1].manifest)
    assert isinstance(manifest.signature, PackedSignature)
    assert unpack_signature(manifest.signature).mean[0] == 3.0
    topic, _ = encode_head(cloud, versions[-1], reader=EVERYONE)
    assert topic == "driftwell/v1/default/_/head/home/1"
    assert readers(cloud, versions[-1]) == [EVERYONE]
    for cohort in cloud.cohorts.values():
        cohort.members = {"home"}
    assert readers(cloud, versions[-1]) == ["home"]
    topic, _ = encode_head(cloud, versions[-1], reader="home")
    assert topic == "driftwell/v1/default/home/head/1"


def after(cloud: Consumer, edge: Bundle, *, seq: int) -> list[StoredVersion]:
    """The versions that another batch from elsewhere leads to."""
    feed(cloud, edge, seq=seq, place=3.0, drifts=1)
    made = []
    while (work := cloud.next_work()) is not None:
        made.append(cloud.commit(work, run(cloud, work)))
    return [version for version in made if version is not None]


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
