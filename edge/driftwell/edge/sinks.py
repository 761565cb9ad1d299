"""Where answers go: JSON lines to a file or standard output, or the predictions topic.

One line a sample: `{"index", "label", "class", "confidence", "entropy", "verdict",
"version"}`. After a `kill -9` the last batch may appear twice; the index tells.
"""

import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from driftwell.edge.filter import Verdict
from driftwell.edge.predictions import Predictions
from driftwell.edge.sources import SourceBatch
from driftwell.messages.errors import SettingsError

_WORDS = {int(verdict): verdict.word for verdict in Verdict}
_encoder = msgspec.json.Encoder()


class Sink(Protocol):
    """Takes each batch's answers, in order."""

    def write(self, batch: SourceBatch, predictions: Predictions) -> None:
        """Take one batch."""

    def close(self) -> None:
        """Flush and let go."""


class Discard:
    """For a device whose answers nobody reads here."""

    def write(self, batch: SourceBatch, predictions: Predictions) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class JsonLines:
    """Answers as JSON lines in a stream of bytes, flushed after each batch."""

    def __init__(self, stream: BinaryIO, classes: Sequence[str], *, owned: bool) -> None:
        self._stream = stream
        self._classes = classes
        self._owned = owned

    def write(self, batch: SourceBatch, predictions: Predictions) -> None:
        """Write one batch."""
        self._stream.write(encode_lines(batch, predictions, self._classes))
        self._stream.flush()

    def close(self) -> None:
        """Close the file, unless it is standard output."""
        if self._owned:
            self._stream.close()


class Queued:
    """Answers as JSON lines for the predictions topic, a batch cut to fit into messages.

    What the network does not take in time is lost, oldest first: answers are for now.
    """

    def __init__(self, queue: deque[bytes], classes: Sequence[str], *, limit_bytes: int) -> None:
        self._queue = queue
        self._classes = classes
        self._limit_bytes = limit_bytes

    def write(self, batch: SourceBatch, predictions: Predictions) -> None:
        """Queue one batch."""
        message = b""
        for line in encode_lines(batch, predictions, self._classes).splitlines(keepends=True):
            if message and len(message) + len(line) > self._limit_bytes:
                self._queue.append(message)
                message = b""
            message += line
        self._queue.append(message)

    def close(self) -> None:
        """Do nothing: the queue is the device's."""


def open_sink(
    spec: str,
    classes: Sequence[str],
    *,
    resumed: bool,
    queue: deque[bytes],
    limit_bytes: int,
) -> Sink:
    """Open `none`, `-`, `mqtt` (onto `queue`), or a file.

    A file is added to if the stream goes on from before, else begun anew.

    Raises:
        SettingsError: if the file cannot be written.
    """
    match spec:
        case "none":
            return Discard()
        case "mqtt":
            return Queued(queue, classes, limit_bytes=limit_bytes)
        case "-":
            return JsonLines(sys.stdout.buffer, classes, owned=False)
        case _:
            path = Path(spec)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                stream = path.open("ab" if resumed else "wb")
            except OSError as error:
                raise SettingsError(f"predictions cannot be written: {error}") from error
            return JsonLines(stream, classes, owned=True)


def encode_lines(batch: SourceBatch, predictions: Predictions, classes: Sequence[str]) -> bytes:
    """One JSON line a sample."""
    columns = zip(
        batch.index.tolist(),
        predictions.label.tolist(),
        predictions.confidence.tolist(),
        predictions.entropy.tolist(),
        predictions.verdicts.tolist(),
        strict=True,
    )
    return _encoder.encode_lines(
        [
            {
                "index": index,
                "label": label,
                "class": classes[label],
                "confidence": round(confidence, 4),
                "entropy": round(entropy, 4),
                "verdict": _WORDS[verdict],
                "version": predictions.version,
            }
            for index, label, confidence, entropy, verdict in columns
        ]
    )
