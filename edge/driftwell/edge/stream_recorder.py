"""Records a device's raw stream and its answers, on the device itself.

Only here all images are at hand: what goes over the network is what the filter selected.
The recording can be answered again, with another filter or another version.
"""

import importlib.metadata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from driftwell.edge.predictions import Predictions
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sinks import Sink
from driftwell.edge.sources import SourceBatch
from driftwell.messages.codec import encode
from driftwell.messages.errors import RecordingError, TooLargeError
from driftwell.messages.images import PackedImages
from driftwell.messages.stream import StreamBatch, pack_stream_columns
from driftwell.messages.topics import Kind, device_topic
from driftwell.recording.background import BackgroundWriter
from driftwell.recording.documents import edge_document, settings_document
from driftwell.recording.form import MAX_MESSAGE, RecordedMessage
from driftwell.recording.split import Numbered, SplitWriter
from driftwell.recording.writer import RecordingWriter

FILE_BYTES: Final = 1_000_000_000
"""After so much a recording goes on in the next file."""
SLOW_DISK: Final = "the disk was slower than the stream; the recording has holes"

log = structlog.get_logger()


class StreamRecorder:
    """A sink that records each batch whole and hands it on to the sink behind it."""

    def __init__(
        self,
        sink: Sink,
        settings: EdgeSettings,
        *,
        path: Path,
        model: str,
        session: str,
        wall_ns: Callable[[], int],
        monotonic_s: Callable[[], float],
    ) -> None:
        """Begin a recording: `path`, or beside it (`-0001`, ...) if that is taken or becomes large.

        Raises:
            RecordingError: if the file cannot be made.
        """
        self._sink = sink
        self._settings = settings
        self._model = model
        self._session = session
        self._wall_ns = wall_ns
        self._seq = 0
        self._is_told = False
        self._topic = device_topic(settings.group, settings.device, Kind.STREAM)
        writer = _begin(path, settings, monotonic_s=monotonic_s)
        self._writer = BackgroundWriter(writer)
        log.info("stream.recording", path=str(writer.path))

    def write(self, batch: SourceBatch, predictions: Predictions) -> None:
        """Record one batch; what the disk does not take is counted and told at the end."""
        if not self._has_failed():
            self._record(batch, predictions)
        self._sink.write(batch, predictions)

    def _has_failed(self) -> bool:
        if self._writer.failure is not None and not self._is_told:
            self._is_told = True
            log.warning("stream.recording-ended", error=str(self._writer.failure))
        return self._is_told

    def _record(self, batch: SourceBatch, predictions: Predictions) -> None:
        self._seq += 1
        now_ns = self._wall_ns()
        message = StreamBatch(
            device=self._settings.device,
            session=self._session,
            seq=self._seq,
            clock_ns=now_ns,
            model=self._model,
            cohort=self._settings.cohort_name,
            version=predictions.version,
            # As it is: the recording compresses, in a thread of its own.
            images=PackedImages(
                encoding="raw", shape=_four(batch.images.shape), data=batch.images.tobytes()
            ),
            columns=pack_stream_columns(
                batch.index,
                predictions.label,
                predictions.entropy,
                predictions.verdicts,
                None if batch.labels is None else batch.labels.astype(np.uint16),
            ),
        )
        try:
            payload = encode(message, limit_bytes=MAX_MESSAGE)
            self._writer.write(RecordedMessage(self._topic, payload, now_ns, now_ns))
        except TooLargeError as error:
            log.warning("stream.not-recorded", error=str(error), hint="smaller batches fit")

    def close(self) -> None:
        """Finish both; a recording that failed is no reason for the device to fail."""
        try:
            self._writer.close()
        except RecordingError as error:
            log.warning("stream.not-recorded", error=str(error), batches=self._writer.left_out)
        else:
            if self._writer.left_out:
                log.warning("stream.left-out", batches=self._writer.left_out, hint=SLOW_DISK)
        finally:
            self._sink.close()


def _begin(path: Path, settings: EdgeSettings, *, monotonic_s: Callable[[], float]) -> SplitWriter:
    software = f"driftwell {importlib.metadata.version('driftwell')}"
    begin = partial(RecordingWriter, software=software, clock_s=monotonic_s)
    # A restart destroys nothing: it goes on with the next number.
    files = Numbered(path, begin, first_plain=not path.exists())
    writer = SplitWriter(files, clock_s=monotonic_s, limit_bytes=FILE_BYTES)
    name = edge_document(settings.group, settings.device)
    writer.add_document(name, settings_document(settings))
    return writer


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    count, height, width, channels = shape
    return count, height, width, channels
