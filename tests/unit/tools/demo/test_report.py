"""The demo's report can be sent to anybody: all of it is in one file."""

import re
from pathlib import Path

import numpy as np
import pytest
from tests.unit.tools.demo.cameras import line, record

from driftwell.tools.demo.figure import draw_accuracy, trailing_mean
from driftwell.tools.demo.report import Report
from driftwell.tools.demo.verdict import judge

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The report of one camera, with its figure."""
    watched = record(tmp_path)
    answers = b"".join(line(index, index) for index in range(8))
    (tmp_path / "answers.jsonl").write_bytes(answers)
    watched.update()
    draw_accuracy([watched], tmp_path / "accuracy.png")
    outcome = judge(
        "cam-fog", "fog", adapted=watched.correct, unaided=watched.camera.unaided, shift_at=4
    )
    image = (tmp_path / "accuracy.png").read_bytes()
    assert image.startswith(PNG)
    return Report([watched], [outcome], {"a <setting>": "1 & 2"}, image).as_html()


def test_the_report_loads_nothing(page: str) -> None:
    """No address anywhere, no script, and every source is in the page."""
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)

    assert re.search(r"https?:|//|<script|<link|@import|url\(", text) is None
    assert re.findall(r"(?:src|href)=\"([^,\"]*)", page) == ["data:image/png;base64"]


def test_the_report_has_the_numbers(page: str) -> None:
    """The verdict, the accuracies of both runs, the gain."""
    assert "1 of 1 devices recovered: fog 50 -&gt; 100 %" in page
    assert "<td>+50.0</td>" in page


def test_what_is_no_markup_stays_text(page: str) -> None:
    """Settings are the user's."""
    assert "a &lt;setting&gt;" in page
    assert "1 &amp; 2" in page


def test_the_curve_is_of_the_images_before() -> None:
    """Fewer of them at the beginning, and never one to come."""
    curve = trailing_mean(np.array([True, False, False, True]), 2)

    assert curve.tolist() == [1.0, 0.5, 0.0, 0.5]
