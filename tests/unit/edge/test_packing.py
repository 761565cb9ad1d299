"""From selected samples to messages under the limit, and back without loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import tiny

from driftwell.edge.packing import Selection, pack_selection, stamp
from driftwell.messages.codec import decode, encode
from driftwell.messages.errors import WireError
from driftwell.messages.images import unpack_images
from driftwell.messages.samples import SampleBatch, unpack_columns

MODEL = "a" * 64


def selection_of(count: int) -> Selection:
    draw = np.random.default_rng(count)
    return Selection(
        tiny.make_images(count, seed=count),
        np.arange(100, 100 + count, dtype=np.uint64),
        draw.random(count).astype(np.float32),
        draw.integers(0, 4, count).astype(np.uint16),
    )


def packed(selection: Selection, limit_bytes: int) -> tuple[list[tuple[bytes, int]], int]:
    return pack_selection(
        selection, device="cam-1", cohort="home", model=MODEL, clock_ns=7, limit_bytes=limit_bytes
    )


@given(count=st.integers(0, 40), limit_bytes=st.integers(400, 4000))
def test_nothing_is_lost_and_nothing_is_over_the_limit(count: int, limit_bytes: int) -> None:
    """All samples come back in order, or are counted; every stamped message fits."""
    selection = selection_of(count)

    batches, too_large = packed(selection, limit_bytes)

    assert sum(samples for _, samples in batches) + too_large == count
    images, columns = [np.zeros((0, *tiny.SHAPE), np.uint8)], []
    for payload, samples in batches:
        message = stamp(payload, session="f" * 16, seq=2**62, oldest_seq=2**62,
                        limit_bytes=limit_bytes)  # fmt: skip
        assert len(message) <= limit_bytes
        batch = decode(message)
        assert isinstance(batch, SampleBatch)
        assert batch.count == samples
        assert (batch.device, batch.cohort, batch.model) == ("cam-1", "home", MODEL)
        images.append(unpack_images(batch.images))
        columns.append(unpack_columns(batch))
    if too_large == 0:
        assert np.array_equal(np.concatenate(images), selection.images)
        index = [int(i) for column in columns for i in column["index"]]
        assert index == selection.index.tolist()
        entropy = [float(h) for column in columns for h in column["entropy"]]
        assert entropy == selection.entropy.tolist()
        prediction = [int(p) for column in columns for p in column["prediction"]]
        assert prediction == selection.prediction.tolist()


def test_one_message_if_it_fits() -> None:
    """A selection under the limit is not split."""
    batches, too_large = packed(selection_of(20), 100_000)
    assert [samples for _, samples in batches] == [20]
    assert too_large == 0


def test_a_single_sample_over_the_limit_is_counted() -> None:
    """What cannot be sent alone is left out, sample by sample."""
    assert packed(selection_of(3), 300) == ([], 3)


def test_damaged_bytes_are_a_wire_error() -> None:
    """The spool's bytes cut short, or those of another message, are not sent."""
    ((payload, _),) = packed(selection_of(2), 10_000)[0]
    ack = encode(tiny.make_ack(1))

    for damaged in (payload[:-1], b"", ack):
        with pytest.raises(WireError) as caught:
            stamp(damaged, session="f" * 16, seq=1, oldest_seq=1, limit_bytes=10_000)
        assert caught.value.code == "malformed"
    with pytest.raises(WireError) as caught:
        stamp(payload, session="f" * 16, seq=1, oldest_seq=1, limit_bytes=100)
    assert caught.value.code == "too-large"


def test_quality_decides_how_images_travel() -> None:
    """With a quality images travel as JPEG, in parts too, and the columns stay as they are."""
    selection = Selection(
        np.random.default_rng(0).integers(0, 256, (9, 32, 32, 1), np.uint8),
        *(getattr(selection_of(9), name) for name in ("index", "entropy", "prediction")),
    )
    exact, lossy = (
        pack_selection(selection, device="cam-1", cohort="home", model=MODEL, clock_ns=7,
                       limit_bytes=2000, quality=quality)
        for quality in (None, 30)
    )  # fmt: skip

    assert exact == pack_selection(
        selection, device="cam-1", cohort="home", model=MODEL, clock_ns=7, limit_bytes=2000
    )
    assert sum(len(payload) for payload, _ in lossy[0]) < sum(len(one) for one, _ in exact[0])
    index: list[int] = []
    for payload, samples in lossy[0]:
        batch = decode(payload)
        assert isinstance(batch, SampleBatch)
        assert batch.images.encoding == "jpeg"
        assert len(unpack_images(batch.images)) == samples
        index += unpack_columns(batch)["index"].tolist()
    assert index == selection.index.tolist()
