"""Stream batches: columns that fit their images, with labels or without."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from tests.golden.fixed_messages import STREAM
from tests.strategies import stream_batches

from driftwell.messages import StreamBatch, decode, encode
from driftwell.messages.arrays import pack_array
from driftwell.messages.errors import ArrayError
from driftwell.messages.stream import LABEL, STREAM_COLUMNS, unpack_stream_columns


@given(stream_batches())
def test_every_image_has_its_columns(batch: StreamBatch) -> None:
    """After a round trip there are as many values in each column as images."""
    received = decode(encode(batch))

    assert isinstance(received, StreamBatch)
    columns = unpack_stream_columns(received)
    assert columns.keys() - {LABEL} == STREAM_COLUMNS.keys()
    assert {len(column) for column in columns.values()} == {received.count}


def test_labels_may_be_missing() -> None:
    """A stream of a camera has no labels, and its batches say so by leaving the column out."""
    bare = tuple(column for column in STREAM.columns if column.name != LABEL)

    assert LABEL in unpack_stream_columns(STREAM)
    assert LABEL not in unpack_stream_columns(msgspec.structs.replace(STREAM, columns=bare))


@pytest.mark.parametrize("name", [*STREAM_COLUMNS, LABEL])
def test_a_column_that_does_not_fit_is_refused(name: str) -> None:
    """A column of another length than the images names itself in the error."""
    others = tuple(column for column in STREAM.columns if column.name != name)
    long = pack_array(name, np.zeros(3, np.uint8))
    batch = msgspec.structs.replace(STREAM, columns=(*others, long))

    with pytest.raises(ArrayError, match=name):
        unpack_stream_columns(batch)
