"""`driftwell bundle create` and `show`: what may adapt."""

from pathlib import Path

import pytest
from safetensors.numpy import save_file
from tests import tiny
from typer.testing import CliRunner

from driftwell.messages.errors import SettingsError
from driftwell.models.bundle import open_bundle
from driftwell.tools.cli.bundle import app


def create(folder: Path, *options: str) -> Path:
    save_file(tiny.weights_of(tiny.edge()), folder / "weights.safetensors")
    words = [
        "create", "--model", "tests.tiny:edge", "--weights", str(folder / "weights.safetensors"),
        "--out", str(folder / "edge"), "--input", "8x8x1", "--classes", ",".join(tiny.CLASSES),
        "--mean", "0.5", "--std", "0.25", *options,
    ]  # fmt: skip
    CliRunner().invoke(app, words, catch_exceptions=False)
    return folder / "edge"


@pytest.mark.parametrize(
    ("options", "scope"),
    [((), "normalisation"), (("--adaptable", "all"), "all")],
)
def test_it_makes_what_was_asked_for(tmp_path: Path, options: tuple[str, ...], scope: str) -> None:
    """Without the option only normalisation adapts; `show` says which it is."""
    path = create(tmp_path, *options)

    assert open_bundle(path).scope == scope
    assert f"{scope}: " in CliRunner().invoke(app, ["show", str(path)]).output


def test_another_word_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """The error says which words there are."""
    with pytest.raises(SettingsError, match="use normalisation or all"):
        create(tmp_path, "--adaptable", "some")

    assert not (tmp_path / "edge").exists()
