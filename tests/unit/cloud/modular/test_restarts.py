"""What a cloud knows of modules and devices after it was started again."""

from pathlib import Path

import pytest
from tests.unit.cloud.modular.keeping import Site, open_site, telemetry

from driftwell.cloud.modular.catalogue import FoldSettings
from driftwell.cloud.modular.serving import serve
from driftwell.cloud.modular.settings import ModuleSettings
from driftwell.messages.blob import Want
from driftwell.messages.errors import DeltaError, RefusalCode
from driftwell.messages.state import ModelLimits

HERE = (0, 3)
SHORT = ModuleSettings(fold=FoldSettings(keep=2))


def advance(site: Site, times: int) -> None:
    for seq in range(1, times + 1):
        site.send(site.update(HERE, seq=seq))


def test_the_bundles_own_version_may_be_too_old_after_a_restart(tmp_path: Path) -> None:
    """An update that began with it is `older-version`, as before the restart; so is its piece."""
    with open_site(tmp_path, settings=SHORT) as site:
        bundle, first = site.bundle, site.keeper.catalogue.newest(HERE)
        late = site.update(HERE, seq=100)
        advance(site, 3)
    with open_site(tmp_path, bundle, SHORT) as again:
        again.send(late)
        with pytest.raises(DeltaError) as refused:
            list(serve(again.keeper.catalogue, Want(layer=0, module=3, piece=first.piece)))

        assert again.counters["refused:older-version"] == 1
        assert refused.value.code is RefusalCode.OLDER_VERSION


def test_fewer_versions_may_be_kept_after_a_restart(tmp_path: Path) -> None:
    """What was kept before and is not any more is too old, not unknown."""
    with open_site(tmp_path) as site:
        bundle = site.bundle
        advance(site, 1)
        late = site.update(HERE, seq=100)
        advance(site, 4)
    with open_site(tmp_path, bundle, SHORT) as again:
        again.send(late)

        assert again.counters["refused:older-version"] == 1


def test_a_slow_device_is_not_taken_for_a_faster_one_after_a_restart(tmp_path: Path) -> None:
    """Limits of its sub-model stand there in its milliseconds, and are read as such."""
    limits = ModelLimits(latency_ms=60.0)
    with open_site(tmp_path) as site:
        bundle = site.bundle
        site.tell(latency_ms=20.0, limits=limits)  # ten times slower than the cloud
        first = site.derive()
    with open_site(tmp_path, bundle) as again:
        again.tell(latency_ms=60.0, limits=ModelLimits(latency_ms=80.0), submodel=1)
        assert again.derive() is None
        again.wait(31)
        again.tell(latency_ms=60.0, limits=ModelLimits(latency_ms=80.0), submodel=1)
        risen = again.derive()

    assert first is not None
    assert risen is not None
    assert risen.costs["latency_ms"] == pytest.approx(80.0)


def test_a_fast_device_is_left_alone_after_a_restart(tmp_path: Path) -> None:
    """Its limit is as it was: nothing has risen, and nothing is planned."""
    limits = ModelLimits(latency_ms=0.6)
    with open_site(tmp_path) as site:
        bundle = site.bundle
        site.tell(latency_ms=0.2, limits=limits)  # ten times faster than the cloud
        assert site.derive() is not None
    with open_site(tmp_path, bundle) as again:
        for _ in range(2):
            again.tell(latency_ms=0.6, limits=limits, submodel=1)
            again.wait(31)

            assert again.keeper.next_derivation() is None


def test_a_cloud_that_lost_its_registry_counts_on_from_what_runs(tmp_path: Path) -> None:
    """A device takes only higher versions than it has, and says which one answers."""
    with open_site(tmp_path) as site:
        site.tell(submodel=7)
        manifest = site.derive()

    assert manifest is not None
    assert manifest.version == 8


def test_a_limit_of_downloads_that_rose_is_seen_after_a_restart(tmp_path: Path) -> None:
    """The limits a sub-model was planned with are all in its manifest."""
    small, large = ModelLimits(download_bytes=2000), ModelLimits(download_bytes=10**6)
    with open_site(tmp_path) as site:
        bundle = site.bundle
        site.tell(limits=small)
        first = site.derive()
    with open_site(tmp_path, bundle) as again:
        again.tell(limits=large, submodel=1)
        again.wait(31)
        again.tell(limits=large, submodel=1)
        second = again.derive()

    assert first is not None
    assert first.limits == {"download_bytes": 2000.0}
    assert second is not None
    assert sum(map(len, second.layers)) > sum(map(len, first.layers))


def test_a_device_of_another_bundle_leaves_a_trace(tmp_path: Path) -> None:
    """Nothing is planned for it, and it is counted as what it is."""
    with open_site(tmp_path) as site:
        site.say(telemetry("b" * 64))

        assert site.derive() is None
        assert site.counters["refused:wrong-model"] == 1
        assert site.keeper.fleet.members == {}
