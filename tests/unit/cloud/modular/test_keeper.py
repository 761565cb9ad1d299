"""Devices get sub-models within their limits, and give back what they learned."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import tiny
from tests.unit.cloud.modular.keeping import (
    EVEN,
    RESOURCES,
    importance_of,
    memory,
    moved_by,
    open_site,
)

from driftwell.cloud.modular.catalogue import FoldSettings
from driftwell.cloud.modular.fleet import FleetSettings
from driftwell.cloud.modular.registry import read_refusals, read_registry
from driftwell.cloud.modular.settings import ModuleSettings
from driftwell.messages import SubModel
from driftwell.messages.arrays import pack_arrays
from driftwell.messages.blob import in_order
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import InfeasibleBudgetError
from driftwell.messages.signing import verify_submodel
from driftwell.messages.state import ModelLimits

HERE = (0, 3)


def test_a_device_gets_all_its_limits_allow(tmp_path: Path) -> None:
    """With room for five modules it gets five, the best of each layer among them."""
    with open_site(tmp_path) as site:
        site.tell(limits=memory(150), importance=importance_of(
            np.array([0.03, 0.6, 0.12, 0.11, 0.1, 0.04]), np.array([0.0, 0.0, 0.0, 0.9, 0.1, 0.0])
        ))  # fmt: skip
        manifest = site.derive()

    assert manifest is not None
    assert [[ref.module for ref in layer] for layer in manifest.layers] == [
        [1, 2, 3, 5],  # the bypass costs nothing
        [3, 4],
    ]
    assert manifest.costs == {"memory_bytes": 150.0, "latency_ms": 7.0}
    assert manifest.limits == {"memory_bytes": 150.0}


def test_a_sub_model_is_signed_for_its_device(tmp_path: Path) -> None:
    """What is published verifies with the cloud's key, and names pieces by what they hold."""
    with open_site(tmp_path) as site:
        site.tell()
        derivation = site.keeper.next_derivation()
        assert derivation is not None
        stored = site.keeper.derived(derivation, derivation.choose())
        assert stored is not None
        message = SubModel(
            device="cam-1", session=tiny.CLOUD_SESSION, seq=1, clock_ns=site.now_ns,
            model=site.bundle.digest, manifest=stored.manifest, signature=stored.signature,
            key=tiny.PUBLIC_KEY,
        )  # fmt: skip
        manifest = verify_submodel(message, tiny.PUBLIC_KEY)

        assert (manifest.device, manifest.group, manifest.version) == ("cam-1", "default", 1)
        assert {ref.piece for ref in manifest.layers[0]} == {
            digest_arrays(site.modules[0, module]) for module in range(6)
        }


def test_a_limit_that_falls_is_heeded_at_once(tmp_path: Path) -> None:
    """As soon as a reading says that the sub-model takes too much, there is a smaller one."""
    with open_site(tmp_path) as site:
        site.tell(limits=memory(200))
        first = site.derive()
        site.tell(limits=memory(130), submodel=1)
        second = site.derive()

    assert first is not None
    assert second is not None
    assert first.costs["memory_bytes"] == 200
    assert second.costs["memory_bytes"] <= 130
    assert second.version == 2


def test_a_limit_that_rises_must_stay(tmp_path: Path) -> None:
    """Room that comes and goes costs no downloads: only what has stayed is used."""
    with open_site(tmp_path) as site:
        site.tell(limits=memory(130))
        assert site.derive() is not None
        site.tell(limits=memory(200), submodel=1)
        assert site.derive() is None
        site.wait(31)
        site.tell(limits=memory(200), submodel=1)
        raised = site.derive()

    assert raised is not None
    assert raised.costs["memory_bytes"] == 200


def test_wobbling_within_the_same_sub_model_publishes_nothing(tmp_path: Path) -> None:
    """A plan that comes to what the device has already is no news, and is not asked for again."""
    with open_site(tmp_path) as site:
        site.tell(limits=memory(1000))
        assert site.derive() is not None
        site.tell(limits=memory(1500), submodel=1)
        site.wait(31)
        site.tell(limits=memory(1500), submodel=1)
        assert site.keeper.next_derivation() is not None
        site.tell(limits=memory(1500), submodel=1)
        assert site.derive() is None

        assert site.keeper.submodel("cam-1") is not None
        assert site.counters["submodels-derived"] == 1


def test_other_data_need_other_modules(tmp_path: Path) -> None:
    """Where the importance moves to other modules, the device gets these."""
    first = np.array([0.5, 0.5, 0.0, 0.0, 0.0, 0.0])
    with open_site(tmp_path) as site:
        site.tell(limits=memory(140), importance=importance_of(first, first))
        site.derive()
        site.tell(limits=memory(140), importance=importance_of(first[::-1], first[::-1]))
        manifest = site.derive()

    assert manifest is not None
    assert [[ref.module for ref in layer] for layer in manifest.layers] == [[4, 5], [4, 5]]


def test_an_infeasible_budget_keeps_the_last_sub_model(tmp_path: Path) -> None:
    """Limits below the smallest sub-model are refused by code, once, and nothing changes."""
    with open_site(tmp_path) as site:
        site.tell()
        site.derive()
        site.tell(limits=memory(99), submodel=1)
        derivation = site.keeper.next_derivation()
        assert derivation is not None
        with pytest.raises(InfeasibleBudgetError, match="memory_bytes needs 100 of 99") as refused:
            derivation.choose()
        site.keeper.infeasible(derivation, refused.value)
        site.tell(limits=memory(99), submodel=1)
        assert site.keeper.next_derivation() is None
        stored = site.keeper.submodel("cam-1")

        assert stored is not None
        assert stored.version == 1
        assert site.counters["refused:infeasible-budget"] == 1


def test_a_device_that_claims_more_than_its_machine_has_is_refused(tmp_path: Path) -> None:
    """Its reading is quarantined under `implausible-limits`; its sub-model stays."""
    with open_site(tmp_path) as site:
        site.tell(limits=memory(RESOURCES.memory_total_bytes + 1))
        assert site.derive() is None
        with read_registry(tmp_path) as database:
            refused = read_refusals(database)

    assert [(one.device, one.code) for one in refused] == [("cam-1", "implausible-limits")]


@pytest.mark.parametrize(
    "importance",
    [(), EVEN[:1], (EVEN[0], EVEN[1][:-4]), (EVEN[0], bytes(24)),
     (EVEN[0], np.full(6, np.nan, "<f4").tobytes()), (EVEN[0], np.full(6, -1, "<f4").tobytes())],
)  # fmt: skip
def test_importance_that_makes_no_sense_plans_nothing(
    tmp_path: Path, importance: tuple[bytes, ...]
) -> None:
    """Of another model, not a number, negative or absent: nobody is planned for by it."""
    with open_site(tmp_path) as site:
        site.tell(importance=importance)

        assert site.derive() is None


def test_latency_is_counted_in_the_devices_milliseconds(tmp_path: Path) -> None:
    """A device on which the fallback takes 20 ms, not 2, gets what takes its limit there."""
    with open_site(tmp_path) as site:
        site.tell(latency_ms=20.0, limits=ModelLimits(latency_ms=60.0))
        manifest = site.derive()

    assert manifest is not None
    assert manifest.costs["latency_ms"] == pytest.approx(60.0)
    assert sum(len(layer) for layer in manifest.layers) == 4 + 2  # bypasses cost nothing


def test_heat_eases_the_model(tmp_path: Path) -> None:
    """A hot device gets a sub-model of half the whole one's time, without asking."""
    hot = msgspec.structs.replace(RESOURCES, temperature_celsius=90.0)
    with open_site(tmp_path) as site:
        site.tell(resources=hot)
        manifest = site.derive()

    assert manifest is not None
    assert manifest.costs["latency_ms"] <= (2 + 10) / 2


def test_an_update_makes_a_version(tmp_path: Path) -> None:
    """What a device learned moves the module; it survives a restart to the bit."""
    with open_site(tmp_path) as site:
        bundle = site.bundle
        site.send(site.update(HERE))
        newest = site.keeper.catalogue.newest(HERE)
    with open_site(tmp_path, bundle) as again:
        restored = again.keeper.catalogue.newest(HERE)

    assert newest.number == 1
    assert (newest.number, newest.piece) == (restored.number, restored.piece)


def test_a_repeated_update_counts_once(tmp_path: Path) -> None:
    """The same message again, also after a restart, changes nothing."""
    with open_site(tmp_path) as site:
        bundle, update = site.bundle, site.update(HERE)
        site.send(update)
        site.send(update)
        assert site.keeper.catalogue.version(HERE) == 1
    with open_site(tmp_path, bundle) as again:
        again.send(update)

        assert again.keeper.catalogue.version(HERE) == 1
        assert again.counters["updates-repeated"] == 1


def test_a_stale_update_counts_less_and_then_not(tmp_path: Path) -> None:
    """One that began some versions ago is taken; one whose version is gone is `older-version`."""
    settings = ModuleSettings(fold=FoldSettings(keep=2))
    with open_site(tmp_path, settings=settings) as site:
        late, later = site.update(HERE, seq=100), site.update(HERE, seq=101)
        site.send(site.update(HERE, seq=1))
        site.send(late)
        site.send(site.update(HERE, seq=2))
        site.send(later)

        assert site.counters["updates-folded"] == 3
        assert site.counters["refused:older-version"] == 1
        assert site.keeper.catalogue.version(HERE) == 3


def test_updates_that_cannot_be_used_are_quarantined(tmp_path: Path) -> None:
    """Unknown pieces, false versions, wrong shapes, leaps, NaN: a code each, no new version."""
    with open_site(tmp_path) as site:
        arrays = in_order(site.modules[HERE])
        nan = {name: np.full_like(array, np.nan) for name, array in arrays.items()}
        wrong = {name: np.zeros(3, np.float32) for name in arrays}
        other = moved_by(site.modules[1, 0], 0.01)
        for seq, update in enumerate([
            site.update(HERE, module="0" * 64),
            site.update(HERE, base_version=7),
            site.update(HERE, by=100.0),
            site.update(HERE, delta=msgspec.UNSET, arrays=pack_arrays(nan)),
            site.update(HERE, delta=msgspec.UNSET, arrays=pack_arrays(wrong)),
            site.update(HERE, delta=msgspec.UNSET),
            site.update(HERE, delta=msgspec.structs.replace(other, values=other.values[:-1])),
        ]):  # fmt: skip
            site.send(msgspec.structs.replace(update, seq=seq + 1))
        with read_registry(tmp_path) as database:
            codes = [one.code for one in read_refusals(database)]

        assert codes == [
            "wrong-source", "bad-array", "bad-array", "not-finite", "bad-array", "bad-array",
            "bad-array",
        ]  # fmt: skip
        assert site.keeper.catalogue.version(HERE) == 0


def test_new_versions_come_together(tmp_path: Path) -> None:
    """A device whose modules have new versions gets them after a while, all in one sub-model."""
    settings = ModuleSettings(fleet=FleetSettings(refresh_s=60))
    with open_site(tmp_path, settings=settings) as site:
        site.tell()
        site.derive()
        site.send(site.update((0, 1), seq=1))
        site.send(site.update((1, 2), seq=2))
        site.tell(submodel=1)
        assert site.derive() is None
        site.wait(61)
        site.tell(submodel=1)
        manifest = site.derive()

    assert manifest is not None
    assert [ref.version for ref in manifest.layers[0]] == [0, 1, 0, 0, 0, 0]
    assert [ref.version for ref in manifest.layers[1]] == [0, 0, 1, 0, 0, 0]


def test_a_restart_goes_on_with_the_sub_models(tmp_path: Path) -> None:
    """A cloud that comes back knows what devices run, and derives nothing anew for it."""
    with open_site(tmp_path) as site:
        bundle = site.bundle
        site.tell(limits=memory(150))
        first = site.derive()
    with open_site(tmp_path, bundle) as again:
        again.tell(limits=memory(150), submodel=1)
        assert again.derive() is None
        again.tell(limits=memory(120), submodel=1)
        second = again.derive()

    assert first is not None
    assert second is not None
    assert second.version == first.version + 1
