"""`driftwell modular plan` and `log`: what limits would give, and what a fleet got."""

from pathlib import Path

import numpy as np
import pytest
from tests import tiny, tiny_modular
from tests.unit.cloud.modular.keeping import memory, open_site
from typer.testing import CliRunner

from driftwell.messages.errors import BundleError, InfeasibleBudgetError, SettingsError
from driftwell.tools.cli import app


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["modular", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_plan_says_what_a_device_would_get(tmp_path: Path) -> None:
    """Without limits all modules, with what they cost by measure and what there is in all."""
    bundle = tiny_modular.make_modular(tmp_path)
    said = run("plan", "--bundle", bundle.path)

    assert "12 modules, exact" in said
    assert f"{bundle.manifest.parameters:,}" in said


def test_a_plan_is_for_the_images_of_a_device(tmp_path: Path) -> None:
    """Their use of the modules decides; a stream of another shape is refused."""
    bundle = tiny_modular.make_modular(tmp_path)
    stream = tiny.write_stream(tmp_path / "stream.npz", 8)
    np.savez(tmp_path / "wrong.npz", x=np.zeros((2, 3, 3, 1), np.uint8))

    assert "modules of layer 1" in run("plan", "--bundle", bundle.path, "--data", stream)
    with pytest.raises(Exception, match="the model takes"):
        run("plan", "--bundle", bundle.path, "--data", tmp_path / "wrong.npz")


def test_limits_that_leave_no_room_are_refused(tmp_path: Path) -> None:
    """With what binds and the smallest there is; infinity is no limit, and one piece no modules."""
    bundle = tiny_modular.make_modular(tmp_path)
    plain = tiny.make_bundle(tmp_path, "edge")

    with pytest.raises(InfeasibleBudgetError, match=r"memory_bytes needs .* of 1"):
        run("plan", "--bundle", bundle.path, "--memory-bytes", 1)
    with pytest.raises(SettingsError, match="must be a number"):
        run("plan", "--bundle", bundle.path, "--latency-ms", "inf")
    with pytest.raises(BundleError, match="in one piece"):
        run("plan", "--bundle", plain.path)


def test_a_log_says_what_devices_run_and_what_was_refused(tmp_path: Path) -> None:
    """Sub-models, versions of modules, and the quarantine, of a cloud that may be running."""
    with open_site(tmp_path) as site:
        site.tell(limits=memory(150))
        site.derive()
        site.send(site.update((0, 3)))
        site.send(site.update((0, 3), seq=2, module="0" * 64))
        said = run("log", "--state", tmp_path)

    assert "cam-1 sub-model 1: " in said
    assert "memory_bytes=150" in said
    assert "layer 0 module 3 version 1" in said
    assert "refused wrong-source cam-1: " in said


def test_a_log_of_another_folder_is_refused(tmp_path: Path) -> None:
    """A folder without a registry of modules is named."""
    with pytest.raises(SettingsError, match=r"has no\s+modules.sqlite"):
        run("log", "--state", tmp_path)
