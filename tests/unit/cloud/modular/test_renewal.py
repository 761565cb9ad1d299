"""A sub-model may be taken for a while; who comes later gets it signed anew."""

from pathlib import Path

import msgspec
from tests.unit.cloud.modular.keeping import Site, open_site

from driftwell.cloud.modular.catalogue import FoldSettings
from driftwell.cloud.modular.fleet import FleetSettings
from driftwell.cloud.modular.settings import ModuleSettings
from driftwell.edge.submodels import is_repeat
from driftwell.messages.signing import read_submodel
from driftwell.messages.submodel import SubModelManifest

DAY_S = 86_400
HERE = (0, 3)


def newest(site: Site) -> SubModelManifest:
    stored = site.keeper.submodel("cam-1")
    assert stored is not None
    return read_submodel(stored.manifest)


def test_a_sub_model_is_signed_anew_before_it_expires(tmp_path: Path) -> None:
    """At half of its time, and over a restart; who has it is told nothing new."""
    with open_site(tmp_path) as site:
        bundle = site.bundle
        site.tell()
        first = site.derive()
        assert first is not None
        site.wait(14 * DAY_S)
        assert site.keeper.expiring() == []
        assert newest(site) == first
        site.wait(2 * DAY_S)
        assert site.keeper.expiring() == ["cam-1"]
        second = newest(site)
        assert site.keeper.expiring() == []
        now_ns = site.now_ns
    with open_site(tmp_path, bundle) as again:
        again.now_ns = now_ns

        assert newest(again) == second

    assert second.expires_ns == now_ns + 30 * DAY_S * 10**9
    assert is_repeat(first, second)
    renewed = {"created_ns": second.created_ns, "expires_ns": second.expires_ns}
    assert msgspec.structs.replace(first, **renewed) == second


def test_who_still_fetches_is_not_sent_something_newer(tmp_path: Path) -> None:
    """Only what cannot be fetched any more is replaced; else a slow link would never be done."""
    settings = ModuleSettings(fold=FoldSettings(keep=2), fleet=FleetSettings(refresh_s=60))
    with open_site(tmp_path, settings=settings) as site:
        site.tell()
        assert site.derive() is not None
        site.send(site.update(HERE, seq=1))
        site.wait(61)
        site.tell(submodel=0)
        assert site.derive() is None
        site.send(site.update(HERE, seq=2))
        site.tell(submodel=0)
        manifest = site.derive()

    assert manifest is not None
    assert max(ref.version for ref in manifest.layers[0]) == 2


def test_a_clock_that_went_back_delays_no_versions(tmp_path: Path) -> None:
    """A sub-model of the future is not waited for."""
    with open_site(tmp_path) as site:
        site.tell()
        assert site.derive() is not None
        site.send(site.update(HERE))
        site.wait(-365 * DAY_S)
        site.tell(submodel=1)

        assert site.derive() is not None
