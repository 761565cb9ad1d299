"""The demo reads a daemon's answers while they are written."""

from pathlib import Path

import pytest
from tests.unit.tools.demo.cameras import line, record


def test_before_the_first_answer_there_is_nothing(tmp_path: Path) -> None:
    """The file is not even there."""
    watched = record(tmp_path)
    watched.update()

    assert watched.seen == 0
    assert watched.recent() is None


def test_only_whole_lines_are_read_and_each_once(tmp_path: Path) -> None:
    """A line may be half on disk when it is looked at."""
    watched = record(tmp_path)
    file = tmp_path / "answers.jsonl"
    half = line(2, 7, version=4)
    file.write_bytes(line(0, 0) + line(1, 1, verdict="too-certain") + half[:20])
    watched.update()

    assert (watched.seen, watched.uploads, watched.version) == (2, 1, 1)

    with file.open("ab") as stream:
        stream.write(half[20:])
    watched.update()
    watched.update()

    assert (watched.seen, watched.uploads, watched.version) == (3, 2, 4)
    assert watched.correct.tolist() == [True, True, False]


def test_both_accuracies_are_of_the_same_images(tmp_path: Path) -> None:
    """Without adaptation this camera knows images 0 and 2 of the first three."""
    watched = record(tmp_path)
    (tmp_path / "answers.jsonl").write_bytes(line(0, 0) + line(1, 1) + line(2, 2))
    watched.update()

    recent = watched.recent()

    assert recent is not None
    assert recent == pytest.approx((1.0, 2 / 3))
