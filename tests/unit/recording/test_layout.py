import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from driftwell.recording.view import VIEWS

LAYOUT = Path(__file__).resolve().parents[3] / "docs" / "foxglove-layout.json"
FIELDS = {
    view.__name__.removesuffix("View").lower(): {
        field.name for field in msgspec.structs.fields(view)
    }
    for view in VIEWS
}


def _layout() -> dict[str, Any]:
    layout: dict[str, Any] = json.loads(LAYOUT.read_text(encoding="utf-8"))
    return layout


def _paths() -> list[str]:
    return [path["value"] for panel in _layout()["configById"].values() for path in panel["paths"]]


@pytest.mark.parametrize("path", _paths())
def test_layout_draws_what_a_view_has(path: str) -> None:
    """Every line of the shipped layout is a field of a view of one device."""
    topic, field = path.split(".")
    view, group, device, kind = topic.split("/")

    assert (view, group, device) == ("view", "default", "cam-1")
    assert field in FIELDS[kind]


def test_every_view_is_drawn() -> None:
    """The shipped layout shows something of each kind of message that has a view."""
    assert {path.split(".")[0].rsplit("/")[-1] for path in _paths()} == set(FIELDS)


def test_every_panel_is_placed_once() -> None:
    """A panel without a place, or a place without a panel, makes a layout invalid."""
    layout = _layout()

    assert sorted(_places(layout["layout"])) == sorted(layout["configById"])


def _places(node: dict[str, Any] | str) -> list[str]:
    if isinstance(node, str):
        return [node]
    return [*_places(node["first"]), *_places(node["second"])]
