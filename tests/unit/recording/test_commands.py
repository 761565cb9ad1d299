import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.recording.recorded import broken, chunks_of, conversation, read_all, write_recording
from typer.testing import CliRunner, Result

from driftwell.messages.errors import RecordingError, SettingsError
from driftwell.tools.cli.recording import app

MESSAGES = conversation(60)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "a.mcap", MESSAGES)


def _run(*words: str | Path, fails: bool = False) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code != 0) == fails, result.output
    return result


def test_info(path: Path) -> None:
    """`info` says in words and as JSON what is in a file."""
    text = _run("info", path).output
    document = json.loads(_run("info", path, "--format", "json").stdout)

    assert "cam-5" in text
    assert "batch = 64" in text
    assert document["messages"] == len(MESSAGES)
    assert set(document["devices"]) == {"cam-5", "cam-6", "cam-7"}


def test_verify(path: Path) -> None:
    """`verify` ends with 0 for a whole file, and with 1 and the way out for another."""
    assert "it is whole" in _run("verify", path).output

    other = broken(path, path.read_bytes()[:-1])
    document = json.loads(_run("verify", other, "--format", "json", fails=True).stdout)
    text = _run("verify", other, fails=True).output

    assert (document["is_whole"], document["is_closed"]) == (False, False)
    assert "recording recover" in text


def test_recover_and_merge(path: Path, tmp_path: Path) -> None:
    """What `recover` saved, `merge` can join; files that are there are kept without --force."""
    other = broken(path, path.read_bytes()[: chunks_of(path)[2][1] + 5])
    saved, joined = tmp_path / "saved.mcap", tmp_path / "joined.mcap"

    text = _run("recover", other, saved).output
    with pytest.raises(RecordingError, match="--force"):
        _run("recover", other, saved)
    _run("recover", other, saved, "--force")
    _run("merge", joined, path, saved)

    assert "damaged: 5 bytes in 1 places" in text
    assert len(read_all(joined)) == len(MESSAGES) + len(read_all(saved))


def test_export(path: Path, tmp_path: Path) -> None:
    """`export` writes one device's images, and knows two forms."""
    text = _run("export", path, tmp_path / "x.npz", "--to", "npz", "--device", "cam-5").output

    assert "2 images of cam-5, from its stream, with labels" in text
    with pytest.raises(SettingsError, match="npz or images"):
        _run("export", path, tmp_path / "y", "--to", "gif")


@pytest.mark.parametrize("words", [("info",), ("verify",)])
def test_unknown_format(path: Path, words: tuple[str, ...]) -> None:
    """A format that is not known is refused, with those that are."""
    with pytest.raises(SettingsError, match="text or json"):
        _run(*words, path, "--format", "xml")


def test_recording_needs_no_torch() -> None:
    """A machine that only records, or looks into recordings, need not have PyTorch."""
    code = (
        "import sys, driftwell.tools.cli.record, driftwell.tools.cli.recording, "
        "driftwell.tools.recorder_link; sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
