"""What `driftwell replay` refuses, each in one clear line: bad files and impossible wishes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.replaying import BUNDLES, Process
from tests.golden.recording.write import (
    RECORDING,
)

pytestmark = pytest.mark.integration


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


def _of_schema_0(content: bytes) -> bytes:
    assert content.count(b"driftwell-1") == 1
    return content.replace(b"driftwell-1", b"driftwell-0")


def _foreign(content: bytes) -> bytes:
    return content.replace(b"driftwell-1", b"ros2-msgs-1")


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "truncated": ("driftwell recording recover", _truncated),
    "flipped": ("was not closed or is damaged", _flipped),
    "schema": ("is a recording of schema 0, this program reads schema 1", _of_schema_0),
    "foreign": ("but not a recording", _foreign),
    "noise": ("is not an MCAP file", lambda content: bytes(len(content))),
    "empty": ("is not an MCAP file", lambda content: content[:0]),
}


@pytest.mark.parametrize(
    ("name", "into"),
    [*((name, "broker") for name in DAMAGES), ("truncated", "cloud"), ("flipped", "cloud")],
)
async def test_a_file_that_cannot_be_replayed(tmp_path: Path, name: str, into: str) -> None:
    """One line says what is wrong with the file, and no digest is printed."""
    text, damage = DAMAGES[name]
    path = tmp_path / "bad.mcap"
    path.write_bytes(damage(RECORDING.read_bytes()))
    options = BUNDLES if into == "cloud" else ("--broker", "mqtt://127.0.0.1:1")

    await _fails(text, "replay", path, "--into", into, *options)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("cannot be read", ("nowhere.mcap",)),
        ("--start 65 is outside of the recording: it runs from 0 to 64.",
         (RECORDING, "--start", "65")),
        ("--end 2020-01-01 is outside", (RECORDING, "--end", "2020-01-01")),
        ("no 'cam-9' here; there are: cam-1, cam-2, cam-3", (RECORDING, "--device", "cam-9")),
        ("--rename takes old=new", (RECORDING, "--rename", "cam-1")),
        ("speed 'fast' is not understood", (RECORDING, "--speed", "fast")),
        ("--into 'fog' is not known; use broker or cloud", (RECORDING, "--into", "fog")),
        ("--into cloud needs --edge", (RECORDING, "--into", "cloud")),
        ("--seed belongs to --into cloud", (RECORDING, "--seed", "0")),
        ("--loop belongs to --into broker", (RECORDING, "--into", "cloud", "--loop", "0")),
        ("--pause needs a terminal, or --control", (RECORDING, "--pause")),
        ("broker 'x' is not understood", (RECORDING, "--broker", "x")),
        ("--format 'xml' is not known",
         (RECORDING, "--into", "cloud", *BUNDLES, "--format", "xml")),
        ("no bundle at", (RECORDING, "--into", "cloud", "--edge", "x", "--foundation", "y")),
        ("unknown setting 'sed'; did you mean 'seed'",
         (RECORDING, "--into", "cloud", *BUNDLES, "--set", "sed=1")),
    ],
)  # fmt: skip
async def test_wishes_that_cannot_be(text: str, options: tuple[str | Path, ...]) -> None:
    """One line says what is wrong with the command, and what would be right."""
    await _fails(text, "replay", *options)


async def _fails(text: str, *arguments: str | Path) -> None:
    code, output, errors = await (await Process.start(*arguments)).end()
    *_, last = errors.splitlines()

    assert (code, output) == (2, ""), errors
    assert last.startswith("error: ")
    assert text in last
    assert "Traceback" not in errors
