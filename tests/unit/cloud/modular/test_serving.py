"""A device gets the piece it asked for, in the fewest bytes, from where it broke off."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.unit.cloud.modular.keeping import Site, open_site

from driftwell.cloud.modular.catalogue import ModuleVersion
from driftwell.cloud.modular.serving import Chunk, serve
from driftwell.messages.blob import CHUNK_BYTES, Want, decode_content
from driftwell.messages.digest import digest_arrays, digest_bytes
from driftwell.messages.errors import DeltaError, RefusalCode

HERE = (1, 2)


def want_of(version: ModuleVersion) -> Want:
    return Want(layer=HERE[0], module=HERE[1], piece=version.piece)


def joined(chunks: list[Chunk]) -> bytes:
    return b"".join(data for *_, data in chunks)


def versions(site: Site, count: int) -> list[ModuleVersion]:
    """A module's versions, after so many updates."""
    made = [site.keeper.catalogue.newest(HERE)]
    for seq in range(1, count + 1):
        site.send(site.update(HERE, seq=seq))
        made.append(site.keeper.catalogue.newest(HERE))
    return made


def test_who_holds_nothing_gets_the_piece(tmp_path: Path) -> None:
    """The content stands alone, and leads to the piece it was asked for."""
    with open_site(tmp_path) as site:
        newest = versions(site, 1)[-1]
        chunks = list(serve(site.keeper.catalogue, want_of(newest)))

    arrays = decode_content(joined(chunks), piece=newest.piece, base=None)
    assert digest_arrays(arrays) == newest.piece
    assert {name for _, name, *_ in chunks} == {digest_bytes(joined(chunks))}


def test_who_is_behind_gets_differences(tmp_path: Path) -> None:
    """From an older piece two differences lead to the newest, in fewer bytes."""
    with open_site(tmp_path) as site:
        old, _, newest = versions(site, 2)
        want = Want(layer=HERE[0], module=HERE[1], piece=newest.piece, have=old.piece)
        whole = joined(list(serve(site.keeper.catalogue, want_of(newest))))
        chunks = list(serve(site.keeper.catalogue, want))

    assert {base for base, *_ in chunks} == {old.piece}
    assert len(joined(chunks)) < len(whole)
    arrays = decode_content(joined(chunks), piece=newest.piece, base=old.arrays)
    assert digest_arrays(arrays) == newest.piece


def test_differences_lead_to_the_version_that_was_promised(tmp_path: Path) -> None:
    """Where the module has gone on since the sub-model was signed, and not back to an older one."""
    with open_site(tmp_path) as site:
        old, promised, newest = versions(site, 2)
        ahead, behind = (
            msgspec.structs.replace(want_of(promised), have=held.piece) for held in (old, newest)
        )
        chunks = list(serve(site.keeper.catalogue, ahead))
        back = list(serve(site.keeper.catalogue, behind))

    assert {base for base, *_ in chunks} == {old.piece}
    assert decode_content(joined(chunks), piece=promised.piece, base=old.arrays)
    assert decode_content(joined(back), piece=promised.piece, base=None)


@pytest.mark.parametrize("have", ["0" * 64, "other"])
def test_differences_need_a_version_that_is_known(tmp_path: Path, have: str) -> None:
    """Who holds something else, another module for instance, gets the piece itself."""
    with open_site(tmp_path) as site:
        newest = versions(site, 1)[-1]
        held = site.keeper.catalogue.newest((0, 0)).piece if have == "other" else have
        want = Want(layer=HERE[0], module=HERE[1], piece=newest.piece, have=held)
        chunks = list(serve(site.keeper.catalogue, want))

    assert digest_arrays(decode_content(joined(chunks), piece=newest.piece, base=None))


def test_a_broken_off_content_is_gone_on_with(tmp_path: Path) -> None:
    """Who holds the beginning gets the rest; who holds the beginning of another content, all."""
    with open_site(tmp_path) as site:
        newest = versions(site, 1)[-1]
        catalogue = site.keeper.catalogue
        content = joined(list(serve(catalogue, want_of(newest))))

        def rest(name: str, offset: int) -> bytes:
            want = Want(
                layer=HERE[0], module=HERE[1], piece=newest.piece, content=name, offset=offset
            )
            return joined(list(serve(catalogue, want)))

        assert rest(digest_bytes(content), 100) == content[100:]
        assert rest("0" * 64, 100) == content
        assert rest(digest_bytes(content), len(content)) == content


def test_chunks_fit_a_message(tmp_path: Path) -> None:
    """No chunk is longer than what a message is meant to hold, whatever the module's size."""
    with open_site(tmp_path) as site:
        large = {"first.weight": np.zeros(40_000, np.float32)}
        version = ModuleVersion(0, digest_arrays(large), large)
        site.keeper.catalogue.restore(HERE, [version])
        chunks = list(serve(site.keeper.catalogue, want_of(version)))
        small = list(serve(site.keeper.catalogue, want_of(version), chunk_bytes=3000))

    assert joined(small) == joined(chunks)
    assert max(len(data) for *_, data in small) == 3000
    assert [offset for *_, offset, _ in chunks] == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]
    assert max(len(data) for *_, data in chunks) == CHUNK_BYTES


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    """An unknown piece, or a known one of another module, is `wrong-source`."""
    with open_site(tmp_path) as site:
        elsewhere = site.keeper.catalogue.newest((0, 0)).piece
        for piece in ("0" * 64, elsewhere):
            with pytest.raises(DeltaError) as refused:
                list(serve(site.keeper.catalogue, Want(layer=1, module=2, piece=piece)))

            assert refused.value.code == RefusalCode.WRONG_SOURCE
