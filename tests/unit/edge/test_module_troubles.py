"""What a device with modules does about damaged files, foreign pieces and a change of networks."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests import modular_pieces, tiny
from tests.modular_pieces import Bundles, make_manifest
from tests.unit.edge.test_modules import (
    CHOSEN,
    bundles,
    codes,
    device,
    modules_of,
    order,
    spool,
    start,
    supply_all,
)

from driftwell.edge.device import Device
from driftwell.edge.module_loops import _switch
from driftwell.edge.pieces import PieceStore
from driftwell.edge.spool import Spool
from driftwell.edge.submodels import Part
from driftwell.messages.blob import encode_whole
from driftwell.messages.digest import digest_arrays
from driftwell.messages.errors import WireError
from driftwell.messages.submodel import ModuleRef

__all__ = ["bundles", "device", "spool"]


async def test_times_are_of_what_answers(device: Device, bundles: Bundles) -> None:
    """With another sub-model they begin anew, without the batch that was under way."""
    modules, images = modules_of(device), tiny.make_images(4)
    order(device, make_manifest(bundles.cloud, 1, CHOSEN))
    supply_all(device, bundles)
    before = device.node.infer(images)
    device.record(before, 9.0)
    assert list(device.timing.latency_s) == [9.0]

    await _switch(device, modules, 1)
    assert list(device.timing.latency_s) == []
    device.record(before, 9.0)  # it had begun before
    assert list(device.timing.latency_s) == []
    device.record(device.node.infer(images), 2.0)

    assert list(device.timing.latency_s) == [2.0]
    assert device.timing.batches == 3


def test_a_damaged_bundle_ends_no_loop(bundles: Bundles, spool: Spool, tmp_path: Path) -> None:
    """A difference from a piece whose file was altered is refused, and the whole is asked for."""
    own = modular_pieces.make_bundles(tmp_path / "own")
    device = start(own, spool)
    modules = modules_of(device)
    layer, module = 0, own.device.spec.fallback[0][0]
    base = own.device.spec.modules[layer][module]
    arrays, content, piece = modular_pieces.moved_piece(
        modular_pieces.pieces_of(own.cloud)[base]
    )  # fmt: skip
    manifest = make_manifest(own.cloud, 1, ((module,), CHOSEN[1]))
    layers = ((ModuleRef(module=module, version=1, piece=piece),), manifest.layers[1])
    order(device, msgspec.structs.replace(manifest, layers=layers))
    file = own.device.path / "modules" / f"{base}.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\1\2\3\4")

    for blob in modular_pieces.make_blobs(piece, content, base=base):
        modules.take_blob(blob)
    whole = modules.supply.next_whole()
    assert whole is not None
    with pytest.raises(WireError) as refused:
        modules.supply.unpack(whole)
    modules.settle(whole, refused.value)

    assert codes(device) == ["bad-array"]
    (want,) = [one for one in modules.supply.fetching.ask(0.0) if one.piece == piece]
    assert want.have is msgspec.UNSET
    assert digest_arrays(arrays) == piece


def test_pieces_of_another_bundle_are_not_held(device: Device, tmp_path: Path) -> None:
    """What they are numbered like is another module here; their room is given back."""
    arrays = {"first.weight": np.ones(9, np.float32)}
    part = Part(0, 3, 2, digest_arrays(arrays))
    assert PieceStore(tmp_path / "other", 10_000, model="a" * 64).put(part, arrays, keep=())

    same = PieceStore(tmp_path / "other", 10_000, model="a" * 64)
    assert same.parts == (part,)
    other = PieceStore(tmp_path / "other", 10_000, model="b" * 64)

    assert other.parts == ()
    assert list((tmp_path / "other").iterdir()) == []


def test_a_model_may_have_many_layers(tmp_path: Path) -> None:
    """As many as a sub-model may name."""
    arrays = {"first.weight": np.ones(9, np.float32)}
    part = Part(999, 255, 2**62, digest_arrays(arrays))
    store = PieceStore(tmp_path, 10_000, model="a" * 64)

    assert store.put(part, arrays, keep=())
    assert PieceStore(tmp_path, 10_000, model="a" * 64).parts == (part,)


def test_a_chunk_that_comes_after_a_restart_is_no_offence(bundles: Bundles, spool: Spool) -> None:
    """The broker kept it while the device was away, and its piece is there already."""
    first = start(bundles, spool)
    order(first, make_manifest(bundles.cloud, 1, CHOSEN))
    supply_all(first, bundles)
    pieces = modular_pieces.pieces_of(bundles.cloud)
    held = modules_of(first).supply.store.parts[0].piece

    device = start(bundles, spool)
    for blob in modular_pieces.make_blobs(held, encode_whole(pieces[held])):
        modules_of(device).take_blob(blob)

    assert codes(device) == []
    assert modules_of(device).supply.received_bytes == 0
