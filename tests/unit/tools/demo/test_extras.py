"""Without the extra, the demo says how to get it."""

from pathlib import Path

import pytest

from driftwell.messages.errors import SettingsError
from driftwell.tools.cli import demo


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(demo, "NEEDED", ("json", "no_such_module"))

    with pytest.raises(
        SettingsError, match=r'needs no_such_module: pip install "driftwell'
    ) as said:
        demo.require_extras()

    assert "[demo]" in str(said.value)


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The desktop's variable decides."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert demo.default_cache() == tmp_path / "driftwell" / "demo"
