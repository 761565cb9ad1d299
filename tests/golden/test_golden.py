"""The bytes of every message, frozen per schema: what was written once is read for ever."""

from pathlib import Path

import numpy as np
import pytest
from tests.golden.fixed_messages import DECODE_ONLY, FIXED, MANIFEST, PIXELS, PUBLIC_KEY
from tests.golden.write import FOLDER, write_golden_files

from driftwell.messages import SampleBatch, decode, encode, unpack_images
from driftwell.messages.codec import TYPE_OF_KIND
from driftwell.messages.head import Head
from driftwell.messages.signing import verify_head


@pytest.mark.parametrize("name", sorted(FIXED.keys() - DECODE_ONLY))
def test_the_encoder_still_writes_the_frozen_bytes(name: str) -> None:
    """A fixed message is encoded to its golden file, byte for byte."""
    frozen = (FOLDER / f"{name}.bin").read_bytes()

    assert frozen == encode(FIXED[name])


@pytest.mark.parametrize("name", sorted(FIXED))
def test_the_decoder_still_reads_the_frozen_bytes(name: str) -> None:
    """A golden file is decoded to the message that was written."""
    message = decode((FOLDER / f"{name}.bin").read_bytes())

    assert FIXED[name] == message


def test_every_file_and_every_type_is_covered() -> None:
    """The folder holds exactly one file per fixed message, and every message type is among them."""
    assert sorted(FIXED) == sorted(path.stem for path in FOLDER.iterdir())
    assert set(TYPE_OF_KIND.values()) == {type(message) for message in FIXED.values()}


def test_the_frozen_signature_still_verifies() -> None:
    """The manifest in the golden head is trusted by who trusts the fixed key."""
    head = decode((FOLDER / "head.bin").read_bytes())

    assert isinstance(head, Head)
    assert verify_head(head, PUBLIC_KEY) == MANIFEST


@pytest.mark.parametrize("name", ["samples", "samples-compressed"])
def test_the_frozen_pixels_still_unpack(name: str) -> None:
    """The golden pixels, raw and compressed, are the same two images."""
    batch = decode((FOLDER / f"{name}.bin").read_bytes())

    assert isinstance(batch, SampleBatch)
    np.testing.assert_array_equal(PIXELS, unpack_images(batch.images))


def test_the_writer_fills_an_empty_folder(tmp_path: Path) -> None:
    """In a new folder the writer writes every file, and a second run finds nothing to do."""
    folder = tmp_path / "schema"

    written = write_golden_files(folder)

    assert sorted(path.name for path in folder.iterdir()) == sorted(written)
    assert len(FIXED) - len(DECODE_ONLY) == len(written)
    assert write_golden_files(folder) == []


def test_the_writer_never_changes_a_file(tmp_path: Path) -> None:
    """Where a file holds other bytes the writer stops before it writes anything."""
    (tmp_path / "ack.bin").write_bytes(b"frozen")

    with pytest.raises(FileExistsError, match=r"ack\.bin"):
        write_golden_files(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["ack.bin"]
    assert (tmp_path / "ack.bin").read_bytes() == b"frozen"
