"""Messages of raw streams to test with."""

import numpy as np
from tests import tiny
from tests.unit.recording.recorded import START_NS

from driftwell.messages.codec import encode
from driftwell.messages.images import Pixels, pack_images
from driftwell.messages.stream import StreamBatch, pack_stream_columns
from driftwell.messages.topics import Kind, device_topic
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage


def stream(
    seq: int, images: Pixels, labels: list[int] | None = None, *, device: str = "cam-1",
    group: str = "home", session: str = tiny.SESSION,
) -> RecordedMessage:  # fmt: skip
    """A batch of a stream; the index goes on from ten times its number."""
    count = len(images)
    batch = StreamBatch(
        device=device, session=session, seq=seq, clock_ns=1, model="0" * 64, cohort="yard",
        version=seq, images=pack_images(images),
        columns=pack_stream_columns(
            np.arange(count, dtype=np.uint64) + np.uint64(10 * seq),
            np.full(count, 2, np.uint16), np.full(count, 0.25, np.float32),
            np.zeros(count, np.uint8), None if labels is None else np.array(labels, np.uint16),
        ),
    )  # fmt: skip
    topic = device_topic(group, device, Kind.STREAM)
    return RecordedMessage(topic, encode(batch, limit_bytes=MAX_MESSAGE), START_NS + seq, 1)
