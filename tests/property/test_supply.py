"""Whatever happens to chunks and to the device, in the end it holds the very pieces."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import modular_pieces
from tests.modular_pieces import Bundles, make_blobs

from driftwell.edge.settings import PieceSettings
from driftwell.edge.submodels import Owner, Part
from driftwell.edge.supply import Supply, module_values
from driftwell.messages.blob import Blob, Want, encode_whole
from driftwell.messages.digest import digest_bytes

CHUNK = 400


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return modular_pieces.make_bundles(tmp_path_factory.mktemp("modular"))


class Site:
    """A device's pieces, and a cloud that has them all and one newer version."""

    def __init__(self, bundles: Bundles, folder: Path) -> None:
        spec = bundles.device.spec
        self.pieces = modular_pieces.pieces_of(bundles.cloud)
        base = spec.modules[0][0]
        newer, self.steps, piece = modular_pieces.moved_piece(self.pieces[base])
        self.pieces[piece] = newer
        self.newer, self.base = piece, base
        self.parts = [Part(0, 0, 1, piece), *(Part(1, n, 0, spec.modules[1][n]) for n in (2, 3))]
        self._bundles, self._folder = bundles, folder
        self._owner = Owner("default", "cam-1", bundles.device.digest,
                            module_values(bundles.device))  # fmt: skip
        self.supply = self._open()
        self.supply.store.put(Part(0, 0, 0, base), self.pieces[base], keep=())

    def restart(self) -> None:
        """As after a kill: what is on the disk is all there is."""
        self.supply = self._open()
        self.supply.begin(1, self.parts, keep=())

    def ask(self) -> list[Blob]:
        """The whole answer to the device's question."""
        return [blob for want in self.supply.fetching.ask(0.0) for blob in self._answer(want)]

    def take(self, blob: Blob) -> None:
        self.supply.take(blob, 0.0)

    def unpack(self) -> None:
        """Look into what is whole."""
        while (whole := self.supply.next_whole()) is not None:
            self.supply.settle(whole, is_kept=self.supply.unpack(whole))

    def _open(self) -> Supply:
        return Supply(self._bundles.device, self._owner, self._folder, PieceSettings())

    def _answer(self, want: Want) -> list[Blob]:
        is_step = want.piece == self.newer and want.have == self.base
        content = self.steps if is_step else encode_whole(self.pieces[want.piece])
        offset = want.offset if want.content == digest_bytes(content) else 0
        base = self.base if is_step else None
        return make_blobs(want.piece, content, base=base, offset=offset, size=CHUNK)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_chunks_lost_repeated_and_mixed_up_over_restarts_lead_to_the_pieces(
    bundles: Bundles, data: st.DataObject
) -> None:
    """Also where one is a difference from another piece."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(bundles, Path(folder))
        site.restart()
        for _ in range(data.draw(st.integers(0, 4), label="questions")):
            blobs = site.ask()
            chosen = data.draw(st.lists(st.sampled_from(blobs), max_size=6)) if blobs else []
            for blob in chosen:
                site.take(blob)
            if data.draw(st.booleans(), label="unpack"):
                site.unpack()
            if data.draw(st.booleans(), label="restart"):
                site.restart()
        for blob in site.ask():  # now the link is a good one
            site.take(blob)
        site.unpack()

        assert site.supply.has_all(site.parts)
        assert len(site.supply.fetching) == 0
        for part in site.parts:
            held = site.supply.arrays(part.layer, part.module, part.piece)
            assert held is not None
            for name, array in site.pieces[part.piece].items():
                np.testing.assert_array_equal(held[name], array)
        assert list((Path(folder) / "partial").iterdir()) == []
