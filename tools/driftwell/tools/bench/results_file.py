"""A file of results, one JSON object a line, that grows while a bench runs.

A line is written at once and whole. If a machine stops in the middle of one, that piece of a
line is cut off when the file is opened the next time, and its run is made again.
"""

import os
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

import msgspec

from driftwell.messages.errors import SettingsError


class Keyed(Protocol):
    """A msgspec struct with the name of everything that decided it."""

    __struct_fields__: ClassVar[tuple[str, ...]]

    @property
    def key(self) -> str:
        """The same for the same run."""


OneResult = TypeVar("OneResult", bound=Keyed)


class ResultsFile(Generic[OneResult]):
    """The results that are there, by key, and a place for more."""

    def __init__(self, path: Path, kind: type[OneResult]) -> None:
        """Read the file, or make it.

        Args:
            path: Of the file.
            kind: What each line holds, with its fields in their order.

        Raises:
            SettingsError: if it cannot be read or written, or a line is no result.
        """
        self.path = path
        self._kind = kind
        self.known: dict[str, OneResult] = {}
        # How every file of them begins, if it is only a piece of a line.
        begins = f'{{"{kind.__struct_fields__[0]}":'.encode()
        try:
            content = path.read_bytes() if path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            self._read(whole)
            if not content.startswith(begins[: len(content)]):
                raise SettingsError(f"--out {path} holds no result of the bench; choose another")
            with path.open("ab") as file:
                if len(whole) < len(content):
                    file.truncate(len(whole))
        except OSError as error:
            raise SettingsError(f"--out {path}: {error}") from error

    def add(self, result: OneResult) -> None:
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
                result = msgspec.json.decode(line, type=self._kind)
            except msgspec.MsgspecError as error:
                raise SettingsError(
                    f"--out {self.path}: line {number} is no result of the bench ({error}); "
                    "choose another file"
                ) from error
            self.known[result.key] = result
