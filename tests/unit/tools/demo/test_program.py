"""The demo's folder: its own is written over, anybody else's is left alone."""

from pathlib import Path

import pytest

from driftwell.messages.errors import SettingsError
from driftwell.tools.demo.program import prepare_folder


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    """It may hold a `state` that matters."""
    (tmp_path / "state").mkdir()

    with pytest.raises(SettingsError, match="choose another --out"):
        prepare_folder(tmp_path)

    assert (tmp_path / "state").is_dir()


def test_an_earlier_demo_leaves_nothing(tmp_path: Path) -> None:
    """A kept state would let the devices go on where they ended."""
    places = prepare_folder(tmp_path / "demo")
    for folder in (places.states, places.answers, places.logs):
        folder.mkdir()
    (places.out / "report.html").touch()

    prepare_folder(tmp_path / "demo")

    assert [path.name for path in places.out.iterdir()] == [".driftwell-demo"]
