"""Answers as JSON lines."""

import json
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from driftwell.edge.filter import FilterSettings
from driftwell.edge.node import EdgeNode
from driftwell.edge.sinks import Discard, Sink, open_sink
from driftwell.edge.sources import SourceBatch
from driftwell.messages.errors import SettingsError
from driftwell.models.bundle import Bundle

IMAGES = tiny.make_images(3)
BATCH = SourceBatch(IMAGES, np.array([7, 8, 9], np.uint64), b"10")


def open_here(spec: str, *, resumed: bool, queue: deque[bytes] | None = None) -> Sink:
    queue = deque() if queue is None else queue
    return open_sink(spec, tiny.CLASSES, resumed=resumed, queue=queue, limit_bytes=250)


def test_one_line_a_sample(tmp_path: Path, bundle: Bundle) -> None:
    """Every field of a line is what the node said of that sample."""
    predictions = EdgeNode(bundle, FilterSettings()).infer(IMAGES)
    file = tmp_path / "new" / "answers.jsonl"
    sink = open_here(str(file), resumed=False)
    sink.write(BATCH, predictions)

    lines = [json.loads(line) for line in file.read_text().splitlines()]  # flushed, not closed
    sink.close()

    assert [line["index"] for line in lines] == [7, 8, 9]
    for row, line in enumerate(lines):
        assert line["label"] == int(predictions.label[row])
        assert line["class"] == tiny.CLASSES[line["label"]]
        assert line["confidence"] == pytest.approx(float(predictions.confidence[row]), abs=1e-4)
        assert line["entropy"] == pytest.approx(float(predictions.entropy[row]), abs=1e-4)
        assert line["verdict"] in {"selected", "too-certain", "too-uncertain"}
        assert line["version"] == 0


def test_a_file_is_added_to_only_if_the_stream_goes_on(tmp_path: Path, bundle: Bundle) -> None:
    """A stream from its beginning replaces the file; one that is resumed adds to it."""
    predictions = EdgeNode(bundle, FilterSettings()).infer(IMAGES)
    file = tmp_path / "answers.jsonl"
    counts = []
    for resumed in (False, True, False):
        sink = open_here(str(file), resumed=resumed)
        sink.write(BATCH, predictions)
        sink.close()
        counts.append(len(file.read_text().splitlines()))

    assert counts == [3, 6, 3]


def test_standard_output_stays_open(
    bundle: Bundle, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """`-` writes to standard output and does not close it; `none` writes nowhere."""
    predictions = EdgeNode(bundle, FilterSettings()).infer(IMAGES)
    for _ in range(2):
        sink = open_here("-", resumed=False)
        sink.write(BATCH, predictions)
        sink.close()
    nowhere = open_here("none", resumed=False)
    nowhere.write(BATCH, predictions)
    nowhere.close()

    assert isinstance(nowhere, Discard)
    assert len(capfdbinary.readouterr().out.splitlines()) == 6


def test_the_predictions_topic_takes_messages_under_its_limit(bundle: Bundle) -> None:
    """`mqtt` queues whole lines, cut into messages that are under the limit."""
    predictions = EdgeNode(bundle, FilterSettings()).infer(IMAGES)
    queue: deque[bytes] = deque()
    sink = open_here("mqtt", resumed=False, queue=queue)

    sink.write(BATCH, predictions)
    sink.close()

    assert len(queue) > 1
    assert all(len(message) <= 250 for message in queue)
    lines = [json.loads(line) for message in queue for line in message.splitlines()]
    assert [line["index"] for line in lines] == [7, 8, 9]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A folder in the place of the file is a SettingsError, not a traceback."""
    with pytest.raises(SettingsError, match="cannot be written"):
        open_here(str(tmp_path), resumed=False)
