"""The file of results: whole lines, whatever stops the bench."""

from pathlib import Path

import msgspec
import pytest

from driftwell.messages.errors import SettingsError
from driftwell.tools.bench.results import Result, Visit
from driftwell.tools.bench.results_file import ResultsFile


def result(key: str) -> Result:
    visit = Visit(domain="fog", visit=0, n=9, accuracy=7.0, accuracy_first=6.0, accuracy_last=8.0)
    return Result(
        stream="fog", method="none", seed=0, n=9, accuracy=7.0, uploaded=0, bytes_up=0,
        bytes_down=0, versions_applied=0, versions_refused=0, lag_s_p50=None, edge_forward_ms=0.1,
        edge_other_ms=0.0, key=key, accuracy_by_domain=(visit,),
    )  # fmt: skip


def test_results_are_there_the_next_time(tmp_path: Path) -> None:
    """Every field, by key."""
    path = tmp_path / "r.jsonl"
    file = ResultsFile(path, Result)
    file.add(result("a"))
    file.add(result("b"))

    assert ResultsFile(path, Result).known == {"a": result("a"), "b": result("b")}


def test_a_piece_of_a_line_is_cut_off(tmp_path: Path) -> None:
    """What was written before stays, and what comes after is whole."""
    path = tmp_path / "r.jsonl"
    ResultsFile(path, Result).add(result("a"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"stream":"sn')

    file = ResultsFile(path, Result)

    assert path.read_bytes() == whole
    file.add(result("b"))
    assert list(ResultsFile(path, Result).known) == ["a", "b"]


@pytest.mark.parametrize("content", [b"hello\n", b'{"results": []}\n', b"\xff\n"])
def test_another_file_is_left_alone(content: bytes, tmp_path: Path) -> None:
    """What is no file of results is neither read nor written to."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match="line 1 is no result"):
        ResultsFile(path, Result)

    assert path.read_bytes() == content


def test_a_file_without_a_whole_line_of_ours_is_left_alone(tmp_path: Path) -> None:
    """A text without a line's end is not taken for a piece of a result."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"precious")

    with pytest.raises(SettingsError, match="no result"):
        ResultsFile(path, Result)

    assert path.read_bytes() == b"precious"


def test_a_place_that_is_none_is_said(tmp_path: Path) -> None:
    """Before anything runs."""
    with pytest.raises(SettingsError, match="--out"):
        ResultsFile(tmp_path / "nowhere" / "r.jsonl", Result)


def test_a_line_is_a_result_for_other_programs(tmp_path: Path) -> None:
    """JSON, with the promised names."""
    path = tmp_path / "r.jsonl"
    ResultsFile(path, Result).add(result("a"))
    row = msgspec.json.decode(path.read_bytes())

    assert row["accuracy_by_domain"][0]["accuracy_last"] == 8.0
    assert {"scenario", "devices", "delay", "drop", "batch", "seed", "key"} <= row.keys()
