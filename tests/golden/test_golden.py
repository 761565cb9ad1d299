"""The bytes of every message, frozen per schema: what was written once is read for ever."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.golden.fixed_messages import (
    DECODE_ONLY,
    FIXED,
    MANIFEST,
    MANIFEST_DOMAIN,
    MANIFEST_INT8,
    MEAN,
    PIXELS,
    PUBLIC_KEY,
    SYMBOLS,
    VARIANCE,
)
from tests.golden.write import FOLDER, write_golden_files

from driftwell.messages import (
    PackedSignature,
    SampleBatch,
    apply_delta,
    decode,
    encode,
    unpack_images,
)
from driftwell.messages.codec import TYPE_OF_KIND
from driftwell.messages.head import Head, Manifest
from driftwell.messages.signature import unpack_signature
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


@pytest.mark.parametrize(
    ("name", "manifest"),
    [("head", MANIFEST), ("head-domain", MANIFEST_DOMAIN), ("head-int8", MANIFEST_INT8)],
)
def test_the_frozen_signature_still_verifies(name: str, manifest: Manifest) -> None:
    """The manifest in a golden head is trusted by who trusts the fixed key."""
    head = decode((FOLDER / f"{name}.bin").read_bytes())

    assert isinstance(head, Head)
    assert verify_head(head, PUBLIC_KEY) == manifest


def test_the_frozen_symbols_still_apply() -> None:
    """The golden int8 delta adds its symbols times its steps, and leaves the rest alone."""
    source = {
        name: np.full(size, 0.1, np.float32)
        for name, size in zip("abcd", (2, 3, 1, 4), strict=True)
    }

    applied = apply_delta(source, MANIFEST_INT8.delta)

    steps = np.array([0.25, 0.001], np.float32)
    np.testing.assert_array_equal(source["a"] + SYMBOLS[:2] * steps[0], applied["a"])
    np.testing.assert_array_equal(source["d"] + SYMBOLS[2:] * steps[1], applied["d"])
    assert [source[name].tobytes() for name in "bc"] == [applied[name].tobytes() for name in "bc"]


def test_the_frozen_moments_still_unpack() -> None:
    """The golden signature has the same three channels, in the batch and in the manifest."""
    batch = decode((FOLDER / "samples-domain.bin").read_bytes())
    head = decode((FOLDER / "head-domain.bin").read_bytes())

    assert isinstance(batch, SampleBatch)
    assert isinstance(batch.signature, PackedSignature)
    assert isinstance(head, Head)
    assert verify_head(head, PUBLIC_KEY).signature == batch.signature
    signature = unpack_signature(batch.signature)
    np.testing.assert_array_equal(np.array(MEAN, np.float32), signature.mean)
    np.testing.assert_array_equal(np.array(VARIANCE, np.float32), signature.variance)
    assert signature.images == 192


@pytest.mark.parametrize("name", ["samples", "samples-compressed", "samples-jpeg"])
def test_a_batch_from_before_domains_names_none(name: str) -> None:
    """What was written before there were domains is read, and says nothing of them."""
    batch = decode((FOLDER / f"{name}.bin").read_bytes())

    assert isinstance(batch, SampleBatch)
    assert (batch.drifts, batch.domain, batch.signature) == (msgspec.UNSET,) * 3


@pytest.mark.parametrize("name", ["samples", "samples-compressed"])
def test_the_frozen_pixels_still_unpack(name: str) -> None:
    """The golden pixels, raw and compressed, are the same two images."""
    batch = decode((FOLDER / f"{name}.bin").read_bytes())

    assert isinstance(batch, SampleBatch)
    np.testing.assert_array_equal(PIXELS, unpack_images(batch.images))


def test_the_frozen_pixels_with_loss_still_decode() -> None:
    """The golden contact sheet is still a picture of the same two images, nearly."""
    batch = decode((FOLDER / "samples-jpeg.bin").read_bytes())

    assert isinstance(batch, SampleBatch)
    unpacked = unpack_images(batch.images)
    assert unpacked.shape == PIXELS.shape
    assert np.abs(unpacked.astype(int) - PIXELS).max() <= 6


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
