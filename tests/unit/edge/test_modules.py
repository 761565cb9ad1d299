"""What a device decides on sub-models and pieces where something is missing, damaged, too much."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests import modular_pieces, tiny
from tests.modular_pieces import Bundles, make_manifest
from tests.unit.edge.test_device import SETTINGS, make_device

from driftwell.edge.assembly import open_model
from driftwell.edge.device import Device
from driftwell.edge.metrics import DeviceCollector
from driftwell.edge.modules import SUBMODELS, Modules
from driftwell.edge.settings import EdgeSettings, PieceSettings
from driftwell.edge.shelf import MAX_KEPT
from driftwell.edge.spool import Spool
from driftwell.edge.subnetwork import SubNetwork
from driftwell.edge.supply import Supply
from driftwell.edge.timing import Clocks
from driftwell.messages.blob import encode_whole
from driftwell.messages.codec import encode
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import BundleError, WireError
from driftwell.messages.submodel import ModuleRef, SubModelManifest

CHOSEN = ((0, 1), (2,))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return modular_pieces.make_bundles(tmp_path_factory.mktemp("modular"))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path, "cam-1")) as opened:
        yield opened


@pytest.fixture
def device(bundles: Bundles, spool: Spool) -> Device:
    return start(bundles, spool)


def start(bundles: Bundles, spool: Spool, settings: EdgeSettings = SETTINGS) -> Device:
    """A device that has begun to run, with what it has on its disk."""
    device = make_device(open_model(bundles.device.path), spool, settings)
    device.restore()
    return device


def modules_of(device: Device) -> Modules:
    assert device.modules is not None
    return device.modules


def order(device: Device, manifest: SubModelManifest) -> None:
    message = modular_pieces.make_submodel(manifest)
    modules_of(device).take_submodel(message, encode(message))


def supply_all(device: Device, bundles: Bundles) -> None:
    """Bring what it lacks, and have it looked into."""
    modules = modules_of(device)
    pieces = modular_pieces.pieces_of(bundles.cloud)
    for piece in modules.supply.fetching.pieces:
        for blob in modular_pieces.make_blobs(piece, encode_whole(pieces[piece])):
            modules.take_blob(blob)
    while (whole := modules.supply.next_whole()) is not None:
        try:
            outcome: bool | WireError = modules.supply.unpack(whole)
        except WireError as error:
            outcome = error
        modules.settle(whole, outcome)


def follow(device: Device) -> int:
    """Run what it decides to run."""
    modules = modules_of(device)
    version = modules.decide(0.0)
    if version is not None:
        try:
            modules.switch(version, modules.build(version))
        except BundleError as error:
            modules.not_built(version, error)
    return modules.running


def codes(device: Device) -> list[str]:
    return [event.code for event in device.reports if event.event == "refused"]


def test_a_sub_model_larger_than_the_disk_allows_is_refused(bundles: Bundles, spool: Spool) -> None:
    """Before a byte of it is fetched; it is said which setting is too small."""
    device = start(bundles, spool)
    modules = modules_of(device)
    modules._pieces_limit_bytes = 1000

    order(device, make_manifest(bundles.cloud, 1, CHOSEN))

    assert codes(device) == ["too-large"]
    assert "pieces.limit_bytes" in device.reports[0].detail
    assert len(modules.supply.fetching) == 0


def test_a_piece_damaged_on_disk_is_fetched_again(
    bundles: Bundles, spool: Spool, tmp_path: Path
) -> None:
    """A restart finds it out when it builds; until it is there again the fallback answers."""
    first = start(bundles, spool)
    order(first, make_manifest(bundles.cloud, 1, CHOSEN))
    supply_all(first, bundles)
    assert follow(first) == 1
    damaged = next(iter(modules_of(first).supply.store.parts)).piece
    path = tmp_path / "pieces" / damaged
    path.write_bytes(path.read_bytes()[:60] + bytes(100))

    device = start(bundles, spool)
    modules = modules_of(device)
    assert modules.running == 0
    assert modules.supply.fetching.pieces == {damaged}
    device.node.infer(tiny.make_images(4))
    supply_all(device, bundles)

    assert follow(device) == 1
    assert codes(device) == []


def test_a_sub_model_that_no_network_comes_of_is_tried_once(
    device: Device, bundles: Bundles
) -> None:
    """The cloud signed a piece of other shapes: refused, and what runs goes on."""
    wrong = {"first.weight": np.zeros((1, 1), np.float32)}
    piece = digest_arrays(wrong)
    manifest = make_manifest(bundles.cloud, 1, CHOSEN)
    layers = ((ModuleRef(module=0, version=1, piece=piece),), *manifest.layers[1:])
    order(device, msgspec.structs.replace(manifest, layers=layers))
    modules = modules_of(device)
    for blob in modular_pieces.make_blobs(piece, encode_whole(wrong)):
        modules.take_blob(blob)
    supply_whole(modules.supply, modules)
    supply_all(device, bundles)

    assert follow(device) == 0

    assert codes(device) == ["bad-array"]
    assert modules.decide(1e9) is None
    device.node.infer(tiny.make_images(4))
    order(device, make_manifest(bundles.cloud, 2, CHOSEN))
    supply_all(device, bundles)
    assert follow(device) == 2


def test_a_sub_model_that_memory_is_too_short_for_is_refused(
    device: Device, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch says so by an error of its own; what runs goes on."""

    def too_much(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    order(device, make_manifest(bundles.cloud, 1, CHOSEN))
    supply_all(device, bundles)
    monkeypatch.setattr(SubNetwork, "__init__", too_much)

    assert follow(device) == 0

    assert codes(device) == ["bad-array"]
    device.node.infer(tiny.make_images(4))


def supply_whole(supply: Supply, modules: Modules) -> None:
    whole = supply.next_whole()
    assert whole is not None
    modules.settle(whole, supply.unpack(whole))


def test_a_disk_that_takes_no_piece_is_no_offence(
    device: Device, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted, and asked for again after the silence; nobody is told a code."""
    order(device, make_manifest(bundles.cloud, 1, CHOSEN))
    modules = modules_of(device)
    lacking = len(modules.supply.fetching)
    monkeypatch.setattr(modules.supply.store, "put", lambda *_, **__: False)

    supply_all(device, bundles)

    assert device.counters["pieces_not_kept"] == lacking
    assert len(modules.supply.fetching) == lacking
    assert codes(device) == []
    monkeypatch.undo()
    supply_all(device, bundles)
    assert follow(device) == 1


def test_the_last_few_sub_models_are_remembered(bundles: Bundles, spool: Spool) -> None:
    """Over a restart; the one that runs is among them, however old."""
    device = start(bundles, spool)
    order(device, make_manifest(bundles.cloud, 1, CHOSEN))
    supply_all(device, bundles)
    assert follow(device) == 1
    for version in range(2, 2 + MAX_KEPT):
        order(device, make_manifest(bundles.cloud, version, ((0, 1, 3), (2,))))

    kept = [one.manifest.version for one in modules_of(device)._shelf]
    again = modules_of(start(bundles, spool))

    assert kept == [1, 3, 4, 5]
    assert [one.manifest.version for one in again._shelf] == kept
    assert again.running == 1


def test_what_was_remembered_is_verified_again(bundles: Bundles, spool: Spool) -> None:
    """Of another key, or damaged, it is left out; the fallback answers."""
    first = start(bundles, spool)
    order(first, make_manifest(bundles.cloud, 1, CHOSEN))
    supply_all(first, bundles)
    assert follow(first) == 1
    stored = spool.recall(SUBMODELS)

    stranger = msgspec.structs.replace(SETTINGS, trust="0" * 64)
    assert modules_of(start(bundles, spool, stranger)).running == 0
    spool.remember(SUBMODELS, b"damaged")
    assert modules_of(start(bundles, spool)).running == 0
    assert stored is not None
    spool.remember(SUBMODELS, stored)
    assert modules_of(start(bundles, spool)).running == 1


def test_an_expired_sub_model_goes_on_after_a_restart(bundles: Bundles, spool: Spool) -> None:
    """It was taken in time; a lesser one would help nobody."""
    first = start(bundles, spool)
    manifest = make_manifest(bundles.cloud, 1, CHOSEN, expires_ns=tiny.NOW_NS + 1)
    order(first, manifest)
    supply_all(first, bundles)
    follow(first)

    again = modules_of(make_device(open_model(bundles.device.path), spool))
    again._clocks = Clocks(lambda: tiny.NOW_NS + tiny.DAY_NS, tiny.Ticks())
    again.restore()

    assert again.running == 1


def test_the_metrics_know_what_runs(device: Device, bundles: Bundles) -> None:
    """The sub-model, the bytes of its pieces on disk, and what was fetched."""
    order(device, make_manifest(bundles.cloud, 1, CHOSEN))
    supply_all(device, bundles)
    follow(device)
    registry = CollectorRegistry()
    registry.register(DeviceCollector(device))

    text = generate_latest(registry).decode()

    store = modules_of(device).supply.store
    assert "driftwell_edge_submodel 1.0" in text
    assert f"driftwell_edge_pieces_bytes {float(store.size_bytes)}" in text
    assert 'driftwell_edge_events_total{event="submodels_applied"} 1.0' in text
    fetched = float(len(store.parts))
    assert f'driftwell_edge_events_total{{event="pieces_fetched"}} {fetched}' in text


def test_a_bundle_in_one_piece_has_no_modules(tmp_path: Path, spool: Spool) -> None:
    """Nothing of this concerns its device."""
    device = make_device(tiny.make_bundle(tmp_path, "edge"), spool)

    assert device.modules is None
    assert not (tmp_path / "pieces").exists()


def test_the_settings_that_bound_pieces_are_sound() -> None:
    """A bound too small for anything is refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"limit_bytes": 10}, PieceSettings)
