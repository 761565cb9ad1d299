"""Going back: a new version with old bits, carried out between two steps, once, whatever dies."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import tiny
from tests.unit.cloud.histories import Cloud, make_cloud, running

from driftwell.cloud.cohort import decode_models, encode_models
from driftwell.cloud.consumer import Consumer
from driftwell.cloud.learner import Learner
from driftwell.cloud.ledger import Ledger
from driftwell.cloud.publisher import reverted_to
from driftwell.cloud.registry import ask_for_revert, is_waiting
from driftwell.cloud.reverting import carry_out_reverts
from driftwell.edge.applier import Incumbent, is_news, resolve_version
from driftwell.messages.delta import apply_delta
from driftwell.messages.digest import digest_arrays
from driftwell.messages.head import Manifest
from driftwell.messages.signing import read_manifest


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    """A cloud with five versions."""
    made = make_cloud(tmp_path)
    made.learn(range(1, 6))
    return made


def ask(cloud: Cloud, version: int, cohort: str = "cam-1") -> int:
    """Ask as the command does: from another connection."""
    with closing(sqlite3.connect(cloud.state / "cloud.sqlite", isolation_level=None)) as database:
        return ask_for_revert(database, cohort, version)


def manifests(consumer: Consumer) -> list[Manifest]:
    return [read_manifest(one.manifest) for one in consumer.ledger.versions("cam-1")]


def test_a_revert_is_a_new_version_with_the_old_bits(cloud: Cloud) -> None:
    """Its number is the highest, its result the old one's, and it says to what it went back."""
    with running(cloud) as virtual:
        ask(cloud, 2)
        made = list(carry_out_reverts(virtual.consumer))
        old = manifests(virtual.consumer)

    new = read_manifest(made[0].manifest)
    assert [one.version for one in old] == [1, 2, 3, 4, 5, 6]
    assert (new.version, new.result, new.delta) == (6, old[1].result, old[1].delta)
    assert new.parent == old[4].result
    assert (new.rollback, new.provenance.method) == (False, "revert to 2")
    assert new.provenance.trained_samples == old[1].provenance.trained_samples
    assert [reverted_to(one.provenance) for one in old] == [None] * 5 + [2]


def test_a_device_with_the_version_before_takes_it(cloud: Cloud) -> None:
    """A revert passes every check of a device, and the old signed message does not come back."""
    with running(cloud) as virtual:
        before, old = manifests(virtual.consumer)[4], manifests(virtual.consumer)[1]
        ask(cloud, 2)
        new = read_manifest(next(carry_out_reverts(virtual.consumer)).manifest)
    incumbent = Incumbent(
        "default", "cam-1", cloud.edge.digest, before.source, before.version, before.result
    )
    now_ns = new.created_ns

    assert is_news(incumbent, new)
    state = resolve_version(incumbent, new, cloud.edge.source, now_ns=now_ns)
    assert digest_arrays(state) == old.result
    reverted = replace(incumbent, version=new.version, result=new.result)
    with pytest.raises(Exception, match="not above"):
        resolve_version(reverted, before, cloud.edge.source, now_ns=now_ns)


def test_learning_goes_on_from_the_old_bits(cloud: Cloud) -> None:
    """Edge: the version's bits without momentum. Foundation: fresh source. Steps go on rising."""
    with running(cloud) as virtual:
        cohort = virtual.consumer.cohorts["cam-1"]
        ask(cloud, 2)
        list(carry_out_reverts(virtual.consumer))
        after = cohort.models
        old = manifests(virtual.consumer)[1]
        source = virtual.consumer.learner.source

        state = apply_delta(cloud.edge.source, old.delta)
        assert digest_arrays(after.edge.arrays) == digest_arrays(state)
        assert (after.edge.learning, after.edge.is_fresh) == ({}, False)
        assert digest_arrays(after.foundation.arrays) == digest_arrays(source.foundation.arrays)
        assert (after.foundation.learning, after.foundation.is_fresh) == ({}, True)
        assert (after.steps, after.samples) == (5, 32)

        cloud.take(virtual, 7)
        assert [one.version for one in manifests(virtual.consumer)] == [1, 2, 3, 4, 5, 6, 7]
        assert manifests(virtual.consumer)[6].provenance.trained_samples == 48
        assert cohort.models.steps == 6


def test_the_source_state_is_one_request_away(cloud: Cloud) -> None:
    """Version 0 leads to the source's bits, and both models begin anew."""
    with running(cloud) as virtual:
        ask(cloud, 0)
        version = read_manifest(next(carry_out_reverts(virtual.consumer)).manifest)
        models = virtual.consumer.cohorts["cam-1"].models

    assert version.result == version.source == cloud.edge.manifest.source_digest
    assert version.delta.values == b""
    assert version.newest_sample_ns == version.created_ns
    assert (models.edge.is_fresh, models.foundation.is_fresh) == (True, True)
    assert (models.steps, models.samples) == (5, 0)


def test_a_request_outlives_the_cloud(cloud: Cloud) -> None:
    """What was asked while no cloud ran is done by the next, with its first message, and once."""
    request = ask(cloud, 3)

    with running(cloud) as virtual:
        cloud.take(virtual, 6)
        made = manifests(virtual.consumer)
        with closing(sqlite3.connect(cloud.state / "cloud.sqlite")) as database:
            assert not is_waiting(database, request)
    with running(cloud) as virtual:
        cloud.take(virtual, 7)
        again = manifests(virtual.consumer)

    assert [one.provenance.method for one in made[5:]] == ["revert to 3", "cema"]
    assert [one.provenance.method for one in again[5:]] == ["revert to 3", "cema", "cema"]


def test_after_a_restart_it_learns_as_if_there_had_been_none(cloud: Cloud) -> None:
    """Freshness is kept: the next version has the same bits with and without a restart."""
    results = []
    for restart in (False, True):
        folder = cloud.folder / f"copy-{restart}"
        twin = Cloud(folder, cloud.edge, cloud.foundation)
        folder.mkdir()
        twin.learn(range(1, 6))
        ask(twin, 2)
        with running(twin) as virtual:
            list(carry_out_reverts(virtual.consumer))
            if not restart:
                twin.take(virtual, 6)
        if restart:
            twin.learn(range(6, 7))
        with closing(Ledger(twin.state)) as ledger:
            results.append([one.result for one in ledger.versions("cam-1")])

    assert len(results[0]) == 7
    assert results[0] == results[1]


def test_a_revert_that_cannot_be_is_refused_and_gone(cloud: Cloud) -> None:
    """No such version, no such cohort: counted, and the next request is answered."""
    with running(cloud) as virtual:
        requests = [ask(cloud, 99), ask(cloud, -1), ask(cloud, 1, "nobody"), ask(cloud, 1)]
        made = list(carry_out_reverts(virtual.consumer))
        counters = virtual.consumer.counters

        assert [one.version for one in made] == [6]
        assert (counters["reverts"], counters["reverts-refused"]) == (1, 3)
        with closing(sqlite3.connect(cloud.state / "cloud.sqlite")) as database:
            assert not any(is_waiting(database, request) for request in requests)


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_damaged_version_is_no_way_back(cloud: Cloud, damage: str) -> None:
    """A delta that no longer leads to the promised bits is refused, and nothing changes."""
    with closing(sqlite3.connect(cloud.state / "cloud.sqlite")) as database, database:
        row = database.execute("SELECT manifest FROM versions WHERE version = 2").fetchone()
        content = bytearray(row[0])
        content[-2] ^= 1
        database.execute(
            "UPDATE versions SET manifest = ? WHERE version = 2",
            (bytes(content) if damage == "altered" else row[0][:-5],),
        )
    with running(cloud) as virtual:
        before = encode_models(virtual.consumer.cohorts["cam-1"].models)
        ask(cloud, 2)

        assert list(carry_out_reverts(virtual.consumer)) == []
        assert encode_models(virtual.consumer.cohorts["cam-1"].models) == before


def test_what_the_disk_does_not_take_has_not_happened(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that fails leaves request, models and version as they were; the next one works."""
    with running(cloud) as virtual:
        consumer = virtual.consumer
        before = encode_models(consumer.cohorts["cam-1"].models)
        request = ask(cloud, 2)

        def full(*arguments: object, **named: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr("driftwell.cloud.ledger.add_version", full)
            with pytest.raises(sqlite3.OperationalError):
                list(carry_out_reverts(consumer))

        assert encode_models(consumer.cohorts["cam-1"].models) == before
        assert encode_models(decode_models(consumer.ledger.models("cam-1") or b"",
                                           consumer.learner.source)) == before  # fmt: skip
        waiting = consumer.ledger.next_revert()
        assert waiting is not None
        assert waiting.id == request
        assert [one.version for one in carry_out_reverts(consumer)] == [6]


def test_pending_samples_stay_pending(cloud: Cloud) -> None:
    """A revert uses no sample and loses none."""
    with running(cloud) as virtual:
        consumer = virtual.consumer
        batch = tiny.make_batch(tiny.make_images(5), model=cloud.edge.digest, seq=6)
        consumer.take_samples(batch, b"payload")
        books = consumer.ledger.books()
        ask(cloud, 2)
        list(carry_out_reverts(consumer))

        assert consumer.ledger.books() == books
        assert consumer.cohorts["cam-1"].pending == 5


def test_models_of_an_earlier_release_are_read(learner: Learner) -> None:
    """Without the marks, a cohort without a step is fresh and any other is not."""
    from safetensors.numpy import load, save

    step = learner.step(
        learner.source, tiny.make_images(16), tiny.make_images(0), tiny.make_generator()
    )
    for models, fresh in ((learner.source, True), (step.models, False)):
        arrays = load(encode_models(models))
        old = save({name: array for name, array in arrays.items() if "fresh" not in name})

        again = decode_models(old, learner.source)

        assert (again.edge.is_fresh, again.foundation.is_fresh) == (fresh, fresh)


def test_only_a_fresh_network_takes_the_statistics_of_its_first_batch(learner: Learner) -> None:
    """Freshness is each network's own: it changes that network's step and no other."""
    images = tiny.make_images(32)
    first = learner.step(learner.source, images, images[:0], tiny.make_generator()).models
    fresh_edge = replace(first, edge=replace(first.edge, is_fresh=True))

    more = tiny.make_images(32, seed=1)

    one, other = (
        learner.step(models, more, more[:0], tiny.make_generator()).models
        for models in (first, fresh_edge)
    )

    assert digest_arrays(one.foundation.arrays) == digest_arrays(other.foundation.arrays)
    assert not np.array_equal(one.edge.arrays["bn1.running_mean"],
                              other.edge.arrays["bn1.running_mean"])  # fmt: skip
    assert not one.edge.is_fresh
