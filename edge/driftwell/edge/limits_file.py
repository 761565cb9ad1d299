"""The file by which an operator or a resource daemon changes a device's limits while it runs."""

from pathlib import Path
from typing import Final

from driftwell.edge.limits import parse_limits
from driftwell.edge.settings import ModelLimitSettings
from driftwell.messages.errors import SettingsError

LOOK_S: Final = 1.0
"""How often the file is looked at."""
MAX_BYTES: Final = 65_536


class LimitsFile:
    """Tells when the file says something new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: bytes | None = b"\0"  # what no file of limits holds
        """What it held when it was last looked at; None: it could not be read."""

    def look(self) -> ModelLimitSettings | None:
        """The limits, if the file has changed since it was last looked at; else None.

        Raises:
            SettingsError: once for each change: it cannot be read, or holds nonsense.
        """
        try:
            with self._path.open("rb") as file:
                content: bytes | None = file.read(MAX_BYTES)
            reason = ""
        except OSError as error:
            content, reason = None, str(error)
        if content == self._seen:
            return None
        self._seen = content
        if content is None:
            raise SettingsError(f"the file of limits cannot be read: {reason}")
        try:
            return parse_limits(content.decode())
        except (SettingsError, UnicodeDecodeError) as error:
            raise SettingsError(f"{self._path} holds no limits: {error}") from error
