"""A file of results, one JSON object a line, that grows while a bench runs.

A line is written at once and whole. If a machine stops in the middle of one, that piece of a
line is cut off when the file is opened the next time, and its run is made again.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from driftwell.messages.errors import SettingsError
from driftwell.tools.bench.results import Result

BEGINS: Final = b'{"stream":'
"""How every file of results begins, if it is only a piece of a line."""


class ResultsFile:
    """The results that are there, by key, and a place for more."""

    def __init__(self, path: Path) -> None:
        """Read the file, or make it.

        Raises:
            SettingsError: if it cannot be read or written, or a line is no result.
        """
        self.path = path
        self.known: dict[str, Result] = {}
        try:
            content = path.read_bytes() if path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            self._read(whole)
            if not content.startswith(BEGINS[: len(content)]):
                raise SettingsError(f"--out {path} holds no result of the bench; choose another")
            with path.open("ab") as file:
                if len(whole) < len(content):
                    file.truncate(len(whole))
        except OSError as error:
            raise SettingsError(f"--out {path}: {error}") from error

    def add(self, result: Result) -> None:
        """Write a result; it is on the disk afterwards.

        Raises:
            SettingsError: if the disk does not take it.
        """
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(msgspec.json.encode(result) + b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            raise SettingsError(f"--out {self.path}: {error}") from error
        self.known[result.key] = result

    def _read(self, whole: bytes) -> None:
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                result = msgspec.json.decode(line, type=Result)
            except msgspec.MsgspecError as error:
                raise SettingsError(
                    f"--out {self.path}: line {number} is no result of the bench ({error}); "
                    "choose another file"
                ) from error
            self.known[result.key] = result
