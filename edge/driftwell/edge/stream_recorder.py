"""Records a device's raw stream and its answers, on the device itself.

Only here all images are at hand: what goes over the network is what the filter selected.
The recording can be answered again, with another filter or another version.
"""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import structlog

from driftwell.edge.node import Predictions
from driftwell.edge.predictions import Sink
from driftwell.edge.settings import EdgeSettings
from driftwell.edge.sources import SourceBatch
from driftwell.messages.codec import encode
from driftwell.messages.errors import RecordingError, TooLargeError
from driftwell.messages.images import PackedImages
from driftwell.messages.stream import StreamBatch, pack_stream_columns
from driftwell.messages.topics import Kind, device_topic
from driftwell.recording.background import BackgroundWriter
from driftwell.recording.form import EDGE_SETTINGS, MAX_MESSAGE, RecordedMessage
from driftwell.recording.writer import RecordingWriter

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
        """Begin a recording; if `path` is taken by an earlier run, beside it (`-2`, `-3`, ...).

        Raises:
            RecordingError: if the file cannot be made.
        """
        self._sink = sink
        self._settings = settings
        self._model = model
        self._session = session
        self._wall_ns = wall_ns
        self._seq = 0
        self._topic = device_topic(settings.group, settings.device, Kind.STREAM)
        writer = RecordingWriter(
            free_path(path),
            software=f"driftwell {importlib.metadata.version('driftwell')}",
            clock_s=monotonic_s,
        )
        writer.add_document(EDGE_SETTINGS + settings.device, _told(settings))
        self._writer = BackgroundWriter(writer)
        log.info("stream.recording", path=str(writer.path))

    def write(self, batch: SourceBatch, predictions: Predictions) -> None:
        """Record one batch; what the disk does not take is counted and told at the end."""
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
        self._sink.write(batch, predictions)

    def close(self) -> None:
        """Finish both; a recording that failed is no reason for the device to fail."""
        try:
            self._writer.close()
        except RecordingError as error:
            log.warning("stream.not-recorded", error=str(error), batches=self._writer.left_out)
        finally:
            self._sink.close()


def free_path(path: Path) -> Path:
    """`path`, or with a number behind its stem if that is taken: a restart destroys nothing."""
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


def _told(settings: EdgeSettings) -> str:
    """The settings as JSON, without what may hold a password."""
    harmless = msgspec.structs.replace(settings, broker="mqtt://localhost:1883")
    return msgspec.json.encode(harmless, enc_hook=str).decode()


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    count, height, width, channels = shape
    return count, height, width, channels
