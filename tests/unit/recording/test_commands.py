import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from tests.tiny import Ticks
from tests.unit.recording.recorded import broken, chunks_of, conversation, read_all, write_recording
from typer.testing import CliRunner, Result

from driftwell.messages.errors import RecordingError, SettingsError
from driftwell.recording.split import Numbered, SplitWriter
from driftwell.recording.writer import RecordingWriter
from driftwell.tools.cli.record import _conclude, run_record
from driftwell.tools.cli.recording import app
from driftwell.tools.recorder import Heard

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
    text = _run("export", path, tmp_path / "x.npz", "--to", "npz", "--device", "cam-7").output

    assert "2 images of cam-7, from its stream, with labels" in text
    with pytest.raises(SettingsError, match="npz or images"):
        _run("export", path, tmp_path / "y", "--to", "gif")


def test_export_replaces_nothing(path: Path, tmp_path: Path) -> None:
    """A file that is there is kept without --force; a folder of images is never emptied."""
    out = tmp_path / "x.npz"
    out.write_bytes(b"precious")
    words = ("export", path, out, "--to", "npz", "--device", "cam-7")

    with pytest.raises(RecordingError, match="--force"):
        _run(*words)
    assert out.read_bytes() == b"precious"
    _run(*words, "--force")
    assert out.read_bytes() != b"precious"
    with pytest.raises(SettingsError, match="npz file only"):
        _run("export", path, tmp_path / "y", "--to", "images", "--force")


def test_what_is_left_out_is_told(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes a joined or recovered recording for all there was."""
    monkeypatch.setattr("driftwell.recording.writer.MAX_TOPICS", 3)

    assert "left out: " in _run("merge", tmp_path / "b.mcap", path).output
    assert "left out: " in _run("recover", path, tmp_path / "c.mcap").output


@pytest.mark.parametrize("wish", [{"group": "No Name"}, {"on": "rain"}, {"broker": "http://x"}])
def test_record_makes_no_file_for_nothing(tmp_path: Path, wish: dict[str, str]) -> None:
    """What is wrong with the words is said before there is a file."""
    with pytest.raises(SettingsError):
        run_record(out=tmp_path / "a.mcap", topic=["a/b"], **wish)  # type: ignore[arg-type]

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [((0,), "out-0001.mcap: 7 messages"), ((0, 70), "out-0001.mcap to out-0002.mcap: 7 messages")],
)
def test_record_names_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seconds: tuple[int, ...], said: str
) -> None:
    """The last line says where the messages are, also when the file had to be split."""
    clock = Ticks()
    files = Numbered(tmp_path / "out.mcap", partial(RecordingWriter, software="x", clock_s=clock))
    writer = SplitWriter(files, clock_s=clock, limit_s=60)
    for second in seconds:
        clock.now_s = second
        writer.write(MESSAGES[0])
    writer.close()

    _conclude(writer, Heard(messages=7))

    assert said in capsys.readouterr().err


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
