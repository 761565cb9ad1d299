"""Answers as JSON lines."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from driftwell.edge.filter import FilterSettings
from driftwell.edge.node import EdgeNode
from driftwell.edge.predictions import Discard, open_sink
from driftwell.edge.sources import SourceBatch
from driftwell.models.bundle import Bundle

IMAGES = tiny.make_images(3)
BATCH = SourceBatch(IMAGES, np.array([7, 8, 9], np.uint64), b"10")


def test_one_line_a_sample(tmp_path: Path, bundle: Bundle) -> None:
    """Every field of a line is what the node said of that sample."""
    predictions = EdgeNode(bundle, FilterSettings()).infer(IMAGES)
    file = tmp_path / "new" / "answers.jsonl"
    sink = open_sink(str(file), tiny.CLASSES, resumed=False)
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
        sink = open_sink(str(file), tiny.CLASSES, resumed=resumed)
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
        sink = open_sink("-", tiny.CLASSES, resumed=False)
        sink.write(BATCH, predictions)
        sink.close()
    nowhere = open_sink("none", tiny.CLASSES, resumed=False)
    nowhere.write(BATCH, predictions)
    nowhere.close()

    assert isinstance(nowhere, Discard)
    assert len(capfdbinary.readouterr().out.splitlines()) == 6
