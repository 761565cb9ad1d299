"""A file that only grows, by whole pieces: a piece that the disk does not take is taken back."""

import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from driftwell.messages.errors import RecordingError


class WholeWrites:
    """A file in which a write is there whole or not at all: held back until `save`."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        """Make the file.

        Raises:
            RecordingError: if it is there and may not be replaced, or cannot be made.
        """
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
        try:
            self._descriptor = _open(path, flags)
        except FileExistsError:
            raise RecordingError(
                f"{path} is there already; choose another name, or --force to replace it"
            ) from None
        except OSError as error:
            raise RecordingError(f"{path} cannot be written: {error.strerror}") from error
        self._held = BytesIO()
        self.size_bytes = 0
        self.is_closed = False

    @property
    def is_dirty(self) -> bool:
        """Whether something is held back."""
        return self._held.tell() > 0

    def write(self, content: bytes) -> int:
        """Add bytes at the end, held back for now."""
        return self._held.write(content)

    def tell(self) -> int:
        """How many bytes there are, with those held back."""
        return self.size_bytes + self._held.tell()

    def save(self) -> None:
        """Write what is held back.

        Raises:
            RecordingError: if the file is closed, or the disk does not take all of it.
        """
        if self.is_closed:
            raise RecordingError(f"{self._path} is closed; nothing more can be recorded into it")
        content = memoryview(self._held.getvalue())
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError as error:
            self._give_up()
            raise RecordingError(
                f"recording stopped, {self._path} cannot be written: {error.strerror}; what is "
                f"in it is whole, and `driftwell recording recover` gives it an index"
            ) from error
        self.size_bytes += len(content)
        self._held = BytesIO()

    def _give_up(self) -> None:
        # Half a record would be no harm, but the promise is whole ones.
        with suppress(OSError):
            os.ftruncate(self._descriptor, self.size_bytes)
        self.close()

    def sync(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            RecordingError: if the disk does not take it.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise RecordingError(f"{self._path} is not safe on the disk: {error}") from error

    def close(self) -> None:
        """Close the file; what is held back is not written."""
        if not self.is_closed:
            self.is_closed = True
            os.close(self._descriptor)


def _open(path: Path, flags: int) -> int:
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
    descriptor = os.open(path, flags, 0o644)
    sync_folder(path.parent)
    return descriptor


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk; else a power cut takes a file with all its chunks.

    Raises:
        OSError: if the disk does not take it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
