"""The shape of the repository: one namespace, small files, names that say something."""

from pathlib import Path

import pytest
from tests.unit.messages.specification import table

from driftwell.messages.topics import ROUTES

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("broker", "cloud", "edge", "messages", "models", "recording", "tools")
SOURCES = sorted(path for root in ROOTS for path in (ROOT / root / "driftwell").rglob("*.py"))
MAX_LINES = 300
NAMELESS = {"base", "common", "helpers", "manager", "utils"}


@pytest.mark.parametrize("root", ROOTS)
def test_every_component_is_a_source_root(root: str) -> None:
    """Each component holds one typed package of the namespace, and nothing beside it."""
    inside = [path.name for path in (ROOT / root / "driftwell").iterdir()]

    assert [name for name in inside if name != "__pycache__"] == [root]
    assert (ROOT / root / "driftwell" / root / "py.typed").is_file()


def test_no_component_claims_the_namespace() -> None:
    """An `__init__.py` in one `driftwell/` would hide the packages of all the others."""
    assert list(ROOT.glob("*/driftwell/__init__.py")) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_file_is_long(path: Path) -> None:
    """A file one cannot take in at a sitting is two files."""
    lines = len(path.read_text(encoding="utf-8").splitlines())

    assert lines <= MAX_LINES


def test_no_module_is_named_after_nothing() -> None:
    """A module has the name of what it holds, or it has no home yet."""
    named = {part for path in SOURCES for part in path.relative_to(ROOT).with_suffix("").parts}

    assert named & NAMELESS == set()


def test_the_topics_table_is_the_routes() -> None:
    """The specification's table of topics says of each kind what the code says."""
    specified = {
        row["kind"]: (row["direction"], row["QoS"], row["retained"]) for row in table("## Topics")
    }

    assert specified == {
        str(kind): (str(route.direction), str(route.qos), "yes" if route.retain else "no")
        for kind, route in ROUTES.items()
    }
