"""`driftwell modular train`, killed and interrupted in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from tests import tiny, tiny_modular
from tests.brokers import eventually

from driftwell.cloud.modular.checkpoint import CHECKPOINT
from driftwell.models.bundle import open_bundle

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "driftwell.tools.cli", "modular", "train")
IMAGES = 600
EPOCHS = 4
LIMIT_S = 60


@contextmanager
def training(folder: Path, out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work; killed in the end if it still is."""
    words = [
        "--bundle", folder / "modular", "--data", folder / "data.npz", "--out", out,
        "--joint-epochs", EPOCHS, "--ability-epochs", EPOCHS, "--seed", 5,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*COMMAND, *(str(word) for word in words)], env=environment, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def written(checkpoint: Path) -> int:
    """When the checkpoint was written, ns; 0: there is none."""
    return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0


def is_newer(checkpoint: Path, than: int) -> bool:
    return written(checkpoint) > than


@pytest.mark.timeout(300)  # four programs, one after the other
async def test_killed_and_interrupted_it_comes_to_the_same_bundle(tmp_path: Path) -> None:
    """SIGKILL after an epoch, Ctrl-C after another, then to the end: the digest of one run."""
    tiny_modular.make_modular(tmp_path)
    tiny.write_stream(tmp_path / "data.npz", IMAGES)
    whole, out = tmp_path / "whole", tmp_path / "out"
    checkpoint = tmp_path / "out.checkpoint" / CHECKPOINT
    with training(tmp_path, whole) as process:
        assert process.wait(LIMIT_S) == 0
    ends = []
    for end in (signal.SIGKILL, signal.SIGINT):
        with training(tmp_path, out) as process:
            await eventually(partial(is_newer, checkpoint, written(checkpoint)), LIMIT_S)
            process.send_signal(end)
            _, said = process.communicate(timeout=LIMIT_S)
            ends.append((process.returncode, b"the same command goes on" in said))
            assert not out.exists()
    with training(tmp_path, out) as process:
        assert process.wait(LIMIT_S) == 0

    assert ends == [(-signal.SIGKILL, False), (130, True)]
    assert open_bundle(out).digest == open_bundle(whole).digest
    assert not checkpoint.exists()
