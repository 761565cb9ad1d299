"""Downloads go on where they were, after a restart, too."""

from pathlib import Path

from tests.modular_pieces import make_blobs

from driftwell.edge.fetching import Beginning, Fetching, Lack
from driftwell.edge.partials import Partials
from driftwell.edge.submodels import Part
from driftwell.messages.digest import digest_bytes

PIECE, BASE = "a" * 64, "b" * 64
CONTENT = bytes(range(250))
WHOLE = Beginning(PIECE, BASE, digest_bytes(CONTENT), 250, 250)


def write(folder: Path, chunks: int) -> Partials:
    """Take the first so many chunks of 100 bytes."""
    partials, asked = Partials(folder), Fetching(1.0)
    asked.begin(1, [Lack(Part(0, 0, 0, PIECE), 1000)])
    for blob in make_blobs(PIECE, CONTENT, base=BASE, size=100)[:chunks]:
        step = asked.take(blob, 0.0)
        assert step is not None
        assert partials.grow(step)
    return partials


def test_a_restart_finds_what_was_there(tmp_path: Path) -> None:
    """Of which piece, from which base, how much, and of what size the whole is."""
    write(tmp_path, 2)

    beginnings = list(Partials(tmp_path).beginnings())

    assert beginnings == [Beginning(PIECE, BASE, digest_bytes(CONTENT), 250, 200)]


def test_a_chunk_that_was_written_in_part_does_no_harm(tmp_path: Path) -> None:
    """Killed in the middle of a write, it asks for what is missing from there on."""
    write(tmp_path, 2)
    path = tmp_path / digest_bytes(CONTENT)
    path.write_bytes(path.read_bytes()[:-30])
    (begun,) = Partials(tmp_path).beginnings()
    asked = Fetching(1.0)
    asked.begin(1, [Lack(Part(0, 0, 0, PIECE), 1000, None, begun)])

    (want,) = asked.ask(0.0)
    for blob in make_blobs(PIECE, CONTENT, base=BASE, offset=want.offset):
        step = asked.take(blob, 0.0)
        assert step is not None
        Partials(tmp_path).grow(step)

    assert want.offset == 170
    assert Partials(tmp_path).read(WHOLE) == CONTENT


def test_a_content_is_verified_when_it_is_read(tmp_path: Path) -> None:
    """One that is not what its digest says is none."""
    partials = write(tmp_path, 3)
    path = tmp_path / digest_bytes(CONTENT)

    assert partials.read(WHOLE) == CONTENT
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert partials.read(WHOLE) is None
    partials.drop(digest_bytes(CONTENT))
    assert partials.read(WHOLE) is None


def test_what_is_not_wanted_any_more_is_forgotten(tmp_path: Path) -> None:
    """So is what is no beginning at all."""
    partials = write(tmp_path, 1)
    (tmp_path / ("c" * 64)).write_bytes(b"\0\3abc")
    (tmp_path / "notes.txt").write_bytes(b"")

    partials.keep_only([PIECE])
    kept = [path.name for path in tmp_path.iterdir()]
    partials.keep_only([])

    assert kept == [digest_bytes(CONTENT)]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    """And takes nothing; that is no error."""
    folder = tmp_path / "partial"
    partials, asked = Partials(folder), Fetching(1.0)
    asked.begin(1, [Lack(Part(0, 0, 0, PIECE), 1000)])
    folder.rmdir()
    step = asked.take(make_blobs(PIECE, CONTENT)[0], 0.0)
    assert step is not None

    assert not partials.grow(step)
    assert list(partials.beginnings()) == []
    partials.keep_only([])
