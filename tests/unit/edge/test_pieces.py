"""The store of pieces: whole files or none, verified, within its limit."""

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from driftwell.edge.pieces import PieceStore
from driftwell.edge.submodels import NO_ARRAYS, Part
from driftwell.messages.digest import digest_arrays

LIMIT = 10_000
MODEL = "a" * 64


def make(number: int, values: int = 100) -> tuple[Part, dict[str, NDArray[np.float32]]]:
    """Version `number` of module 1 of layer 2."""
    arrays = {"first.weight": np.full(values, number, np.float32)}
    return Part(2, 1, number, digest_arrays(arrays)), arrays


def fill(store: PieceStore, *numbers: int, values: int = 100) -> list[str]:
    """Put pieces of these numbers, and return their digests."""
    pieces = []
    for number in numbers:
        part, arrays = make(number, values)
        assert store.put(part, arrays, keep=())
        pieces.append(part.piece)
    return pieces


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    """Its values, and which module in which version it is."""
    part, arrays = make(7)
    PieceStore(tmp_path, LIMIT, model=MODEL).put(part, arrays, keep=())

    again = PieceStore(tmp_path, LIMIT, model=MODEL)

    read = again.read(part.piece)
    assert read is not None
    assert read.keys() == arrays.keys()
    np.testing.assert_array_equal(read["first.weight"], arrays["first.weight"])
    assert again.parts == (part,)
    assert [path.name for path in tmp_path.iterdir()] == [part.piece]


def test_the_piece_of_a_bypass_is_always_there(tmp_path: Path) -> None:
    """It has no arrays, and takes no file."""
    store = PieceStore(tmp_path, LIMIT, model=MODEL)

    assert NO_ARRAYS in store
    assert store.read(NO_ARRAYS) == {}
    assert store.size_bytes == 0


def test_a_kill_before_the_rename_leaves_nothing(tmp_path: Path) -> None:
    """What an unfinished write left is removed at the next start, and is no piece."""
    part, _ = make(1)
    PieceStore(tmp_path, LIMIT, model=MODEL)
    (tmp_path / f"{part.piece}.new").write_bytes(b"half a pie")
    (tmp_path / "..hidden").write_bytes(b"whatever this is")

    store = PieceStore(tmp_path, LIMIT, model=MODEL)

    assert part.piece not in store
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"DWP1", b"flipped"])
def test_a_damaged_file_is_found_out_and_removed(tmp_path: Path, damage: bytes) -> None:
    """Empty, cut short or altered, as after a power failure: it is not there any more."""
    store = PieceStore(tmp_path, LIMIT, model=MODEL)
    (piece,) = fill(store, 1)
    content = (tmp_path / piece).read_bytes()
    altered = content[:-1] + bytes([content[-1] ^ 1])
    (tmp_path / piece).write_bytes(altered if damage == b"flipped" else damage)

    read = store.read(piece)

    assert read is None
    assert piece not in store
    assert not (tmp_path / piece).exists()


def test_a_file_that_vanished_is_not_there(tmp_path: Path) -> None:
    """Somebody removed it behind the device's back."""
    store = PieceStore(tmp_path, LIMIT, model=MODEL)
    (piece,) = fill(store, 1)
    (tmp_path / piece).unlink()

    assert store.read(piece) is None
    assert piece not in store


def test_the_least_recently_used_give_way(tmp_path: Path) -> None:
    """Never those that are to be kept; the limit holds, over a restart, too."""
    store = PieceStore(tmp_path, 2000, model=MODEL)
    first, second, third = fill(store, 1, 2, 3)
    each = store.size_bytes // 3
    store.use([first])
    for age, piece in enumerate((second, third, first)):
        os.utime(tmp_path / piece, ns=(age, age))

    store = PieceStore(tmp_path, 3 * each, model=MODEL)
    fourth, arrays = make(4)
    assert store.put(fourth, arrays, keep=[second])

    assert [part.piece for part in store.parts] == [second, first, fourth.piece]
    assert store.size_bytes <= 3 * each


def test_there_is_no_room_where_all_are_to_be_kept(tmp_path: Path) -> None:
    """Then the new one stays outside, and none of those gives way."""
    store = PieceStore(tmp_path, 1200, model=MODEL)
    pieces = fill(store, 1, 2)
    part, arrays = make(3)

    is_kept = store.put(part, arrays, keep=pieces)

    assert not is_kept
    assert [one.piece for one in store.parts] == pieces


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    """The piece is not there, and nothing is left of it."""
    folder = tmp_path / "pieces"
    store = PieceStore(folder, LIMIT, model=MODEL)
    folder.rmdir()
    part, arrays = make(1)

    assert not store.put(part, arrays, keep=())
    assert part.piece not in store


def test_a_name_that_is_no_digest_never_becomes_a_path(tmp_path: Path) -> None:
    """Whatever a caller took from the wire."""
    store = PieceStore(tmp_path, LIMIT, model=MODEL)

    with pytest.raises(ValueError, match="no digest"):
        store.put(Part(0, 0, 0, "../escape"), {}, keep=())
    assert store.read("../escape") is None
