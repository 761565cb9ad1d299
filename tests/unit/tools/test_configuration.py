"""Settings from file, environment and flags: later wins, and what is wrong is said."""

from pathlib import Path

import pytest

from driftwell.edge.settings import EdgeSettings
from driftwell.messages.errors import SettingsError
from driftwell.tools.configuration import read_settings

PREFIX = "DRIFTWELL_EDGE_"
FLAGS: dict[str, object] = {"bundle": Path("b"), "source": "npz:x", "device": "cam-1"}


def read(
    *assignments: str,
    file: Path | None = None,
    environment: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> EdgeSettings:
    return read_settings(
        EdgeSettings, file=file, environment=environment, prefix=PREFIX,
        assignments=assignments, flags={**FLAGS, **(flags or {})},
    )  # fmt: skip


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "edge.toml"
    file.write_text(text)
    return file


def test_later_wins(tmp_path: Path) -> None:
    """File, then environment, then flags; what a later one does not say stays."""
    file = write(tmp_path, "batch = 1\nthreads = 2\ngroup = 'f'\n[spool]\nwindow = 3\n")
    environment = {"DRIFTWELL_EDGE_THREADS": "4", "DRIFTWELL_EDGE_GROUP": "e",
                   "DRIFTWELL_EDGE_SPOOL__RESEND_S": "0.5", "OTHER": "x"}  # fmt: skip

    settings = read(file=file, environment=environment, flags={"group": "g", "pace": None})

    assert (settings.batch, settings.threads, settings.group) == (1, 4, "g")
    assert (settings.spool.window, settings.spool.resend_s) == (3, 0.5)
    assert settings.pace == "max"


def test_the_quality_of_uploads(tmp_path: Path) -> None:
    """Without a word uploads are without loss; a quality is 1 to 95."""
    file = write(tmp_path, "[upload]\nquality = 95\n")

    assert read().upload.quality is None
    assert read(file=file).upload.quality == 95
    assert read("upload.quality=1", file=file).upload.quality == 1
    for wrong in ("0", "96", "'high'"):
        with pytest.raises(SettingsError, match="quality"):
            read(f"upload.quality={wrong}")


def test_nested_assignments(tmp_path: Path) -> None:
    """`--set` wins over file and environment, key by key."""
    file = write(tmp_path, "[filter]\ne_max = 0.1\ne_min = 0.01\n")

    settings = read(
        "filter.e_max=0.3", "filter.lambda = 2", file=file,
        environment={"DRIFTWELL_EDGE_FILTER__E_MAX": "0.2"},
    )  # fmt: skip

    assert (settings.filter.e_max, settings.filter.e_min) == (0.3, 0.01)
    assert settings.filter.lambda_ == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("bacth=3", "unknown setting 'bacth'; did you mean 'batch'"),
        ("filter.e_mxa=0.3", r"'filter\.e_mxa'; did you mean 'filter\.e_max'"),
        ("zzz=3", "known: bundle"),
        ("batch=many", "batch"),
        ("batch=0", "batch"),
        ("filter.e_max=2", "e_max"),
        ("statistics=none", "statistics"),
        ("device=Not A Name", "device|pattern"),
        ("trust=xyz", "trust|pattern"),
        ("batch", "key=value"),
        ("=3", "key=value"),
        ("source.x=1", "device|table|source"),
    ],
)
def test_what_is_wrong_is_said(assignment: str, message: str) -> None:
    """An unknown key suggests the right one; a wrong value names its setting."""
    flags: dict[str, object] = {"device": None} if assignment.startswith("device") else {}
    if assignment.startswith("source"):
        flags["source"] = None
    with pytest.raises(SettingsError, match=message):
        read(assignment, flags=flags)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    """Missing, no TOML, and an unknown table are errors with the file's or the table's name."""
    with pytest.raises(SettingsError, match=r"none\.toml does not exist"):
        read(file=tmp_path / "none.toml")
    with pytest.raises(SettingsError, match=r"edge\.toml cannot be read"):
        read(file=write(tmp_path, "batch = = 3"))
    with pytest.raises(SettingsError, match="did you mean 'filter'"):
        read(file=write(tmp_path, "[filtre]\ne_max = 0.1\n"))
